"""Start the page as the configuration describes it."""

from __future__ import annotations

import importlib.util
import logging
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fer_edge.errors import InputError, MissingExtraError
from fer_edge_device.logging import LogTail
from fer_edge_device.state_folder import find_state_file, state_file
from fer_edge_device.web.address import bind, parse_listen_address
from fer_edge_device.web.token import Token, is_hash, read_token

if TYPE_CHECKING:
    from fer_edge_device.config.settings import Config
    from fer_edge_device.web.controls import Controls
    from fer_edge_device.web.live_view import LiveView

logger = logging.getLogger(__name__)

_KEY: Final = "web.listen"


class Page:
    """The page of a runner, until it is closed.

    Attributes:
        url: its address for a browser.
    """

    def __init__(self, config: Config, view: LiveView, controls: Controls) -> None:
        """Listen, and start the server.

        Args:
            config: the configuration.
            view: what to show.
            controls: what the page can do.

        Raises:
            InputError: something in the section ``web`` cannot be used.
            MissingExtraError: the extra is not installed.
        """
        missing = [name for name in ("starlette", "uvicorn") if importlib.util.find_spec(name) is None]
        if missing:
            raise MissingExtraError(" and ".join(missing), "web")
        from fer_edge_device.web.access import Access  # noqa: PLC0415 - an extra
        from fer_edge_device.web.app import WebApp  # noqa: PLC0415 - likewise
        from fer_edge_device.web.server import WebServer  # noqa: PLC0415 - likewise

        settings = config.web
        address = parse_listen_address(settings.listen, _KEY)
        hosts = [host.strip() for host in settings.hosts.split(",") if host.strip()]
        token = None
        if hosts or not address.is_loopback:
            token = Token(*read_token(settings, state_file(*_token_names(config.node_name()))))
        certificate, key = (Path(name) if name else None for name in (settings.cert_file, settings.key_file))
        log = LogTail()
        app = WebApp(view, controls, Access(token, hosts), log, settings)
        with ExitStack() as stack:
            listener = stack.enter_context(closing(bind(address, _KEY)))
            logging.getLogger().addHandler(log)
            stack.callback(logging.getLogger().removeHandler, log)
            server = WebServer(app, view, listener, certificate, key)
            stack.callback(server.close)
            self._stack = stack.pop_all()
        self.url = address._replace(port=listener.getsockname()[1]).url(tls=bool(certificate))
        how = "; `fer-edge web token` shows the token that opens it" if token else ""
        logger.info("the page is at %s%s", self.url, how)

    def close(self) -> None:
        """End the server."""
        self._stack.close()


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
