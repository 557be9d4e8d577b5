"""The models, topics and files that a configuration names: loading them, and checking all of them."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fer_edge.classification.classifier import TFLiteClassifier
from fer_edge.detection.factory import make_detector
from fer_edge.errors import InputError
from fer_edge.model_zoo import find_model
from fer_edge_device.capture.http_stream import tls_context
from fer_edge_device.messages import MessageFactory

if TYPE_CHECKING:
    from collections.abc import Callable

    from fer_edge.detection.base import TrackingDetector
    from fer_edge_device.config.settings import CollectSettings, Config

_SYSTEM_FOLDERS: Final = (Path("/proc"), Path("/sys"))  # where no file can be kept


def load_classifier(config: Config) -> TFLiteClassifier:
    """Load the classifier of a configuration.

    Raises:
        ModelError: its file is missing, damaged or of the wrong kind.
    """
    return TFLiteClassifier(find_model(Path(config.model)), config.threads)


def load_detector(config: Config) -> TrackingDetector:
    """Load the face detector of a configuration.

    Raises:
        ModelError: its file is missing, damaged or of the wrong kind.
    """
    faces = config.faces
    path = Path(faces.detector_model) if faces.detector_model else None
    return make_detector(faces.detector, path, faces.min_face or None, faces.min_score or None)


def check_messages(config: Config) -> None:
    """Check the node's name, the topics and the broker's address.

    Raises:
        InputError: one of them cannot be used.
    """
    MessageFactory(config.node_name(), config.mqtt.topic_prefix)
    if config.mqtt.url:
        # The MQTT client takes 0.1 s to import, which only users of a broker should wait for.
        from fer_edge_device.mqtt.broker import Broker  # noqa: PLC0415

        Broker(config.mqtt)


def check_collect(settings: CollectSettings) -> None:
    """Check that faces can be encrypted, if they are to be collected.

    Raises:
        InputError: the public key is damaged.
        MissingExtraError: the extra is not installed.
    """
    if settings.enabled:
        from fer_edge_device.collect.encryption import Encryption  # noqa: PLC0415 - only users of collect need it

        Encryption(settings.public_key)


def config_problems(config: Config) -> list[str]:
    """Return the problems of a configuration, without opening the camera or connecting to the broker."""
    checks: tuple[Callable[[], object], ...] = (
        partial(load_classifier, config),
        partial(load_detector, config),
        partial(tls_context, config.camera),
        partial(check_messages, config),
        partial(check_collect, config.collect),
        partial(_check_outbox, config.outbox.path),
    )
    problems = []
    for check in checks:
        try:
            check()
        except InputError as error:
            problems.append(str(error))
    return problems


def _check_outbox(path: str) -> None:
    """Check that a file can be at a path; who may write there depends on the user, and is for the doctor."""
    file = Path(path).resolve()
    if path and file.exists() and not file.is_file():
        raise InputError(f"outbox.path: {path} is not a file; choose another place")
    folder = next(parent for parent in file.parents if parent.exists())
    if path and (not folder.is_dir() or any(file.is_relative_to(system) for system in _SYSTEM_FOLDERS)):
        raise InputError(f"outbox.path: no file can be kept at {path}; choose another place")
