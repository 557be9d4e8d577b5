"""Select faces for review and keep them, from a thread of its own."""

from __future__ import annotations

import logging
import threading
import time as clock
from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import cv2
import msgspec

from fer_edge.classification.selection import (
    contradicts_mirror_image,
    crop_for_review,
    is_rare,
    label_scores,
    score_margin,
)
from fer_edge.errors import FerEdgeError, printable
from fer_edge.tagging.selected_face import SelectedFace
from fer_edge_device.collect.encryption import Encryption
from fer_edge_device.collect.folder import NotWantedError

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import numpy.typing as npt

    from fer_edge.classification.classifier import Classifier
    from fer_edge.classification.selection import Reason
    from fer_edge.geometry import CropSpec
    from fer_edge_device.collect.folder import CollectFolder
    from fer_edge_device.config.settings import CollectSettings
    from fer_edge_device.messages import Message
    from fer_edge_device.pipeline.events import TrackedFace

logger = logging.getLogger(__name__)

_HOUR_S: Final = 3600.0
_RECOUNT_S: Final = 60.0  # after which a full folder is counted again
_COUNT_S: Final = 1.0  # of the source's time between two counts of a face's emotion
_MIRROR_S: Final = 1.0  # of the source's time between two faces whose mirror image is scored
_MAX_WAITING: Final = 64
_MAX_TRACKS: Final = 1000
_CLOSE_S: Final = 5.0  # seconds for the disk when the run ends


@dataclass(slots=True)
class _Track:
    """Times of a track on the source's clock, in seconds, before which it is not counted or kept again."""

    count_at: float
    keep_at: float


class _Candidate(NamedTuple):
    """A crop that waits for the thread.

    Attributes:
        crop: grey, uint8.
        face: what is known of it, without an image.
        reason: why it is kept; None if only its mirror image can tell.
        track: its track.
        time: on the source's clock, in seconds.
    """

    crop: npt.NDArray[np.uint8]
    face: SelectedFace
    reason: Reason | None
    track: _Track
    time: float


class FaceCollector:
    """Keeps encrypted crops of faces that are worth a person's review; an observer of a runner.

    The runner's thread compares scores, and cuts out what is selected. A thread of this class does everything else:
    mirror images, encryption and writing. It never has more than 64 crops waiting; further ones are dropped.
    """

    def __init__(
        self,
        folder: CollectFolder,
        settings: CollectSettings,
        node: str,
        classifier: Classifier,
        is_on: Callable[[], bool],
    ) -> None:
        """Start the thread.

        Args:
            folder: where the crops go.
            settings: the section of the configuration.
            node: name of the node.
            classifier: scores mirror images; nobody else may use it.
            is_on: returns whether the privacy switch is on; asked again just before a crop appears on disk.

        Raises:
            InputError: the public key is damaged.
            MissingExtraError: the extra is not installed.
        """
        self._encryption = Encryption(settings.public_key)
        self._folder, self._settings, self._node = folder, settings, node
        self._classifier, self._is_on = classifier, is_on
        self._counts: Counter[str] = Counter()
        self._tracks: dict[int, _Track] = {}
        self._mirror_at = float("-inf")
        self._pause_until = float("-inf")  # the hour or the folder is full
        self._kept: deque[float] = deque()  # times of the last hour
        self._changed = threading.Condition()
        self._waiting: deque[_Candidate] = deque()
        self._is_failing = False
        self._closing = False
        logger.info(
            "crops of some faces are kept, encrypted, in %s: at most %d an hour and %d in all, for %g days",
            printable(str(folder.path)),
            settings.max_per_hour,
            settings.max_faces,
            settings.max_days,
        )
        # A daemon: a disk that hangs must not keep the process from exiting.
        self._thread = threading.Thread(target=self._run, name="collect", daemon=True)
        self._thread.start()

    def consider(
        self,
        gray: npt.NDArray[np.uint8],
        face: TrackedFace,
        face_id: str,
        scores: npt.NDArray[np.float32],
        crop_spec: CropSpec,
    ) -> None:
        """Keep a face that was just classified, if it is worth a review; never wait.

        Args:
            gray: the frame, uint8 of shape (rows, columns), valid during this call.
            face: the face, with its quality and what was reported before this classification.
            face_id: the id of its track, as in events.
            scores: of shape (labels,), not smoothed.
            crop_spec: how its box becomes a square.
        """
        # A face that is not reported yet may be none, and of an unclear one nobody could tell the emotion either.
        if face.reported is None or not face.quality.suffices():
            return
        now, emotion = face.classified_at, face.model.labels[int(scores.argmax())]
        track = self._track(face.track.number, now)
        if now >= track.count_at:
            self._counts[emotion] += 1
            track.count_at = now + _COUNT_S
        if now < track.keep_at or clock.monotonic() < self._pause_until or len(self._waiting) >= _MAX_WAITING:
            return
        reason = self._reason(scores, emotion, face.reported)
        if reason:
            track.keep_at = now + self._settings.interval_s
        elif now >= self._mirror_at:
            self._mirror_at = now + _MIRROR_S
        else:
            return
        known = SelectedFace(
            png=b"",
            time=clock.time(),
            node=self._node,
            model=face.model.name,
            emotion=emotion,
            scores=label_scores(scores, face.model.labels),
            reason=reason or "contradictory",
            group=face_id,
        )
        crop = crop_for_review(gray, face.track.face, crop_spec, self._classifier.card.input)
        with self._changed:
            self._waiting.append(_Candidate(crop, known, reason, track, now))
            self._changed.notify_all()

    def observe(self, *messages: Message) -> None:
        """Forget what waits as soon as the node is switched off; see `fer_edge_device.sinks.Observer`."""
        if any(message.is_of("enabled/state") and message.payload == "OFF" for message in messages):
            with self._changed:
                self._waiting.clear()

    def close(self, *, keep_waiting: bool) -> None:
        """End the thread.

        Args:
            keep_waiting: whether crops that wait are kept; otherwise they are forgotten.
        """
        with self._changed:
            self._closing = True
            if not keep_waiting:
                self._waiting.clear()
            self._changed.notify_all()
        self._thread.join(_CLOSE_S)

    def _track(self, number: int, now: float) -> _Track:
        track = self._tracks.get(number)
        if track is None:
            if len(self._tracks) >= _MAX_TRACKS:
                self._tracks = {each: old for each, old in self._tracks.items() if old.count_at >= now - _HOUR_S}
            track = self._tracks[number] = _Track(now, now)
        return track

    def _reason(self, scores: npt.NDArray[np.float32], emotion: str, reported: str) -> Reason | None:
        if score_margin(scores) < self._settings.margin:
            return "uncertain"
        if emotion != reported:
            return "contradictory"
        return "rare" if is_rare(emotion, self._counts) else None

    def _run(self) -> None:
        self._prepare()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if not self._waiting:
                    return
                candidate = self._waiting.popleft()
            try:
                if self._keep(candidate) and self._is_failing:
                    self._is_failing = False
                    logger.info("crops of faces are kept again")
            except NotWantedError:  # switched off meanwhile
                pass
            except Exception as error:  # noqa: BLE001 - whatever fails here, the runner goes on
                self._report(error)

    def _prepare(self) -> None:
        """Learn from the folder how much has been kept, and delete what a power cut has left."""
        try:
            self._folder.delete_unfinished()
            now = clock.time()
            self._kept.extend(time for time in self._folder.times() if now - _HOUR_S < time <= now)
        except OSError as error:
            self._report(error)

    def _keep(self, candidate: _Candidate) -> bool:
        """Keep a face, and return whether that was done."""
        if not (self._is_on() and self._has_room()):
            return False
        if candidate.reason is None:
            if not contradicts_mirror_image(candidate.crop, self._classifier):
                return False
            candidate.track.keep_at = candidate.time + self._settings.interval_s
        png = cv2.imencode(".png", candidate.crop)[1].tobytes()
        face = msgspec.structs.replace(candidate.face, png=png)
        time = clock.time() if face.time is None else face.time
        self._folder.add(self._encryption.encrypt(face), time, self._is_on)
        self._kept.append(time)
        return True

    def _has_room(self) -> bool:
        """Return whether the bounds allow another face; if not, none is considered until they may."""
        now = clock.time()
        while self._kept and not now - _HOUR_S < self._kept[0] <= now:  # also after a change of the clock
            self._kept.popleft()
        if len(self._kept) >= self._settings.max_per_hour:
            self._pause_until = clock.monotonic() + self._kept[0] + _HOUR_S - now
        elif len(self._folder.times()) >= self._settings.max_faces:
            self._pause_until = clock.monotonic() + _RECOUNT_S
        else:
            return True
        return False

    def _report(self, error: Exception) -> None:
        """Log the first of several problems in a row."""
        if not self._is_failing:
            self._is_failing = True
            if isinstance(error, FerEdgeError):
                reason = str(error)
            else:  # of other errors, only what cannot hold a part of a face or of a key
                reason = (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
            logger.warning("crops of faces cannot be kept, and are dropped: %s", reason)
