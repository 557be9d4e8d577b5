"""Start a page as the configuration describes it."""

from __future__ import annotations

import importlib.util
import logging
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fer_edge.errors import InputError, MissingExtraError, printable
from fer_edge.tflite.trial import trust_models
from fer_edge_device.logging import LogTail
from fer_edge_device.state_folder import find_state_file, state_file
from fer_edge_device.web.access import Access
from fer_edge_device.web.address import bind, parse_listen_address, proxy_names
from fer_edge_device.web.server_thread import ServerThread
from fer_edge_device.web.token import Token, is_hash, read_token

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fer_edge.review.session import ReviewSession
    from fer_edge.tagging.options import TagOptions
    from fer_edge_device.config.settings import Config
    from fer_edge_device.web.controls import Controls
    from fer_edge_device.web.live_view import LiveView
    from fer_edge_device.web.server import WebServer
    from fer_edge_device.web.site import Site
    from fer_edge_device.web.uploads import UploadModel

logger = logging.getLogger(__name__)

_KEY: Final = "web.listen"


class Page:
    """A page that is being served, until it is closed.

    Attributes:
        url: its address for a browser.
        token_source: where the token is; empty if none is needed.
    """

    def __init__(self, stack: ExitStack, url: str, token: tuple[str, str] | None) -> None:
        """Take over what serves the page.

        Args:
            stack: ends it.
            url: the address.
            token: the token and where it is; None if none is needed.
        """
        self._stack, self.url = stack, url
        self.token_source = token[1] if token else ""

    def __str__(self) -> str:
        """Return the address, and where the token is."""
        return f"{self.url}; its token is in {self.token_source}" if self.token_source else self.url

    def close(self) -> None:
        """End the server."""
        self._stack.close()


def serve_live_page(config: Config, view: LiveView, controls: Controls) -> Page:
    """Serve the live page of a runner.

    Args:
        config: the configuration.
        view: what to show.
        controls: what the page can do.

    Raises:
        InputError: something in the section ``web`` cannot be used.
        MissingExtraError: the extra is not installed.
    """
    _check_extra()
    log, token = LogTail(), _read_token(config)
    access = _make_access(config, token)

    def make_site() -> Site:
        from fer_edge_device.web.live_app import LiveApp  # noqa: PLC0415 - slow, and an extra

        return LiveApp(view, controls, access, log, config.web).site

    with ExitStack() as stack:
        url = _serve(config, make_site, stack)
        logging.getLogger().addHandler(log)
        stack.callback(logging.getLogger().removeHandler, log)
        stack.callback(setattr, view, "on_change", lambda: None)
        page = Page(stack.pop_all(), url, token)
    logger.info("the page is at %s", page)
    return page


def serve_images_page(config: Config, models: Sequence[TagOptions]) -> Page:
    """Serve the page for images and videos of one's own.

    Args:
        config: the configuration; only its section ``web`` counts.
        models: the models that can be chosen.

    Raises:
        InputError: something in the section ``web`` cannot be used, or two models have the same name.
        MissingExtraError: the extra is not installed.
        ModelError: a model cannot be loaded.
    """
    _check_extra()
    from fer_edge_device.web.images_app import ImagesApp  # noqa: PLC0415 - an extra
    from fer_edge_device.web.uploads import UploadModel  # noqa: PLC0415 - slow

    token = _read_token(config)
    with ExitStack() as stack:
        loaded = [stack.enter_context(closing(UploadModel(options))) for options in models]
        trust_models()  # each has been tried, and its thread loads it once more
        app = ImagesApp(_name_models(loaded), _make_access(config, token), tls=bool(config.web.cert_file))
        url = _serve(config, lambda: app.site, stack)
        return Page(stack.pop_all(), url, token)


def serve_review_page(session: ReviewSession, port: int) -> Page:
    """Serve the page for reviewing faces, to this machine alone.

    Args:
        session: the review.
        port: where; 0 takes a free one.

    Raises:
        InputError: the port is in use.
        MissingExtraError: the extra is not installed.
    """
    _check_extra()
    from fer_edge_device.config.settings import Config, WebSettings  # noqa: PLC0415 - slow
    from fer_edge_device.web.review_app import ReviewApp  # noqa: PLC0415 - an extra

    config = Config(web=WebSettings(listen=f"127.0.0.1:{port}"))
    with ExitStack() as stack:
        app = stack.enter_context(closing(ReviewApp(session, Access(None, ()))))
        url = _serve(config, lambda: app.site, stack, "--port")
        return Page(stack.pop_all(), url, None)


def _name_models(models: Sequence[UploadModel]) -> dict[str, UploadModel]:
    """Return the models by their names; where two have the same, the names of their files are added."""
    named: dict[str, UploadModel] = {}
    names = [model.provenance.model for model in models]
    for name, model in zip(names, models, strict=True):
        shown = f"{name} ({printable(Path(model.options.model).stem)})" if names.count(name) > 1 else name
        if shown in named:
            raise InputError(f"--model: {shown} is given twice")
        named[shown] = model
    return named


def _check_extra() -> None:
    missing = [name for name in ("starlette", "uvicorn") if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtraError(" and ".join(missing), "web")


def _make_access(config: Config, token: tuple[str, str] | None) -> Access:
    try:
        return Access(Token(*token) if token else None, proxy_names(config.web), config.web.trusted_proxy)
    except ValueError as error:
        raise InputError(f"web.trusted_proxy: {error}; give an address such as 172.30.32.2") from error


def _read_token(config: Config) -> tuple[str, str] | None:
    """Return the token and where it is from; None if only this machine can connect."""
    if not proxy_names(config.web) and parse_listen_address(config.web.listen, _KEY).is_loopback:
        return None
    return read_token(config.web, state_file(*_token_names(config.node_name())), make=True)


def _serve(config: Config, make_site: Callable[[], Site], stack: ExitStack, name: str = _KEY) -> str:
    """Start a server, which the stack ends, and return its address.

    Args:
        config: the configuration.
        make_site: makes the site, in the server's thread.
        stack: ends the server.
        name: what gave the address, for errors.
    """
    settings = config.web
    address = parse_listen_address(settings.listen, name)
    certificate, key = (Path(name) if name else None for name in (settings.cert_file, settings.key_file))
    if key and not certificate:
        raise InputError("web.key_file: there is no certificate for this key; set web.cert_file")
    if certificate:
        from fer_edge_device.web.certificate import check_certificate  # noqa: PLC0415 - slow

        check_certificate(certificate, key)

    def make_server() -> WebServer:
        from fer_edge_device.web.server import WebServer  # noqa: PLC0415 - slow, and an extra

        return WebServer(make_site(), certificate, key)

    listener = stack.enter_context(closing(bind(address, name)))
    stack.enter_context(closing(ServerThread(make_server, listener)))
    return address._replace(port=listener.getsockname()[1]).url(tls=bool(certificate))


def show_token(config: Config, config_file: Path) -> str:
    """Return the token of a node, for whoever may read it.

    Args:
        config: the node's configuration.
        config_file: its file.

    Raises:
        InputError: it cannot be read.
    """
    text, source = read_token(config.web, find_state_file(*_token_names(config.node_name()), config_file))
    Token(text, source)
    if is_hash(text):
        raise InputError(f"{source}: holds only the hash of the token; write a new token there if you have lost it")
    return text


def _token_names(node: str) -> tuple[str, str, str]:
    return "web-token", f"{node}-web-token", "web.token_file"
