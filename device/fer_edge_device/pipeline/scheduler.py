"""The schedule of detection, search and classification."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fer_edge.tracking.tracker import Track, Tracker
    from fer_edge_device.config.settings import FacesSettings

_JITTER: Final = 0.01  # seconds; frames of a camera come a little early or late
_UNCHANGED_FACTOR: Final = 2  # on the classification interval, while the emotion of a face does not change
_STATIONARY_S: Final = 0.2  # maximum time for which a stationary face is not searched for


class Scheduler:
    """Decides what is done in each frame, from the time and the tracks alone.

    - Around known faces the detector searches in every frame. It skips stationary faces for up to 0.2 s. If the faces
      are so many that one search of the whole frame costs less, it searches that instead.
    - The whole frame is searched every ``detect_interval_s``, or ``fps`` times per second while no face is known. While
      no face is missing, every other search is coarse: it finds only large faces, in a quarter of the time.
    - A missing face starts a search of the whole frame at once, then after one frame, after twice as long, and so on,
      until its track ends.
    - A face is classified every ``classify_interval_s``, or half as often while its emotion does not change.

    Attributes:
        time: time of the present frame, in seconds.
    """

    def __init__(self, tracker: Tracker, faces: FacesSettings, *, fps: float, idle_fps: float) -> None:
        """Start before the first frame.

        Args:
            tracker: has the tracks; it is only read.
            faces: how often to detect and to classify.
            fps: maximum frames per second while faces are in view.
            idle_fps: maximum frames per second while no face is in view.
        """
        self._tracker = tracker
        self.reconfigure(faces, fps=fps, idle_fps=idle_fps)
        self.time = 0.0
        self._stationary: list[Track] = []
        self._all_tracks_searched_at = 0.0
        self._frame_searched_at: float | None = None
        self._frame_searched_finely_at = 0.0

    def reconfigure(self, faces: FacesSettings, *, fps: float, idle_fps: float) -> None:
        """Use other settings from the next frame on; the arguments are those of ``__init__``."""
        self._settings, self._fps, self._idle_fps = faces, fps, idle_fps

    @property
    def frame_interval(self) -> float:
        """Minimum time between two frames of a live source, in seconds."""
        return 1 / (self._fps if self._tracker.tracks else self._idle_fps)

    def next_frame(self, time: float, reported: Iterable[Track]) -> None:
        """Go on to the next frame.

        Args:
            time: time of the frame, in seconds.
            reported: the tracks that have been reported; only they may be skipped as stationary.
        """
        self.time = time
        self._stationary = self._stationary_tracks(reported)

    def tracks_in_view(self) -> list[Track]:
        """Return the tracks that were found in the present frame, or were skipped as stationary."""
        return [track for track in self._tracker.tracks if track.last_seen == self.time or track in self._stationary]

    def tracks_to_detect(self) -> list[Track]:
        """Return the tracks around which the detector must search in this frame."""
        if self._settings.detect_interval_s <= 0:  # the whole of every frame is searched
            return []
        return [track for track in self._tracker.tracks if track not in self._stationary]

    def detection_comes_first(self, tracks: int, roi_cost: float) -> bool:
        """Return whether to search the whole of this frame first, and around tracks only if they are not found in it.

        Args:
            tracks: number of tracks around which the detector must search.
            roi_cost: as for `TrackingDetector.roi_cost`.
        """
        elapsed = self.time - self._frame_searched_finely_at + _JITTER
        return tracks > 0 and (tracks * roi_cost >= 1 or elapsed >= 2 * self._settings.detect_interval_s)

    def detection_is_due(self) -> bool:
        """Return whether the whole of this frame must be searched after the search around the tracks."""
        if self._frame_searched_at is None:
            return True
        elapsed = self.time - self._frame_searched_at + _JITTER
        interval = self._settings.detect_interval_s
        if not self._tracker.tracks:
            # That is every frame that a live source gives meanwhile, and enough of a video to see somebody who runs.
            interval = min(interval, 1 / self._fps)
        # The time that a face had been missing at the last search is the time to wait for the next one.
        return elapsed >= interval or any(
            elapsed >= self._frame_searched_at - track.last_seen for track in self._missing_tracks()
        )

    def coarse_detection_suffices(self) -> bool:
        """Return whether the search of this frame may be coarse: no face is missing and a fine one was recent."""
        elapsed = self.time - self._frame_searched_finely_at + _JITTER
        return (
            bool(self._tracker.tracks) and not self._missing_tracks() and elapsed < 2 * self._settings.detect_interval_s
        )

    def record_detection(self, *, coarse: bool) -> None:
        """Record that the whole of this frame was searched and the tracks were updated."""
        self._frame_searched_at = self.time
        if not coarse:
            self._frame_searched_finely_at = self.time
        # Only if it found the stationary faces as well: else they would no longer be classified in one batch.
        if not any(track.missed for track in self._tracker.tracks):
            self._all_tracks_searched_at = self.time

    def classification_is_due(self, last: float, *, unchanged: bool) -> bool:
        """Return whether a face must be classified in this frame.

        Args:
            last: time of its latest classification, in seconds.
            unchanged: whether that gave the emotion that is reported already.
        """
        interval = self._settings.classify_interval_s * (_UNCHANGED_FACTOR if unchanged else 1)
        return self.time - last + _JITTER >= interval

    def _stationary_tracks(self, reported: Iterable[Track]) -> list[Track]:
        """Return the tracks that are taken to be where they were: they did not move and were found a moment ago."""
        longest = min(_STATIONARY_S, self._settings.classify_interval_s, self._tracker.max_age_s)
        if self.time - self._all_tracks_searched_at + _JITTER >= longest:
            # All of them in one frame, so that they are also classified in one batch.
            self._all_tracks_searched_at = self.time
            return []
        return [track for track in reported if track.stationary and track.last_seen >= self._all_tracks_searched_at]

    def _missing_tracks(self) -> list[Track]:
        return [track for track in self._tracker.tracks if track.missed and track not in self._stationary]
