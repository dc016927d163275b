"""Serve the page of a growing folder on this machine alone, and look at the folder only while somebody does."""

import contextlib
import secrets
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from markupsafe import Markup

from analysis.errors import UserError
from analysis.watch.first_fits import FirstFits
from analysis.watch.follow import Ladder
from analysis.watch.page import curves, in_order, shell, state

# Seconds between two looks at the folder, and between two questions of a browser; the curves, which cost the most,
# are drawn again after REDRAW.
EVERY, REDRAW = 4.0, 20.0
_LOCAL = ("127.0.0.1", "localhost")


class Watch:
    """What is known of a folder, renewed when it is asked for and the last look is `every` seconds old."""

    def __init__(self, folder: Path, every: float = EVERY) -> None:
        self.ladder, self.fits, self.every = Ladder(folder), FirstFits(folder), every
        self._lock = threading.Lock()
        self._written: tuple[str, str] = ("", "")
        self._curves, self._drawn, self._drawn_of = Markup(), 0.0, -1

    def state(self) -> tuple[str, str]:
        """Return the version of what is known, and the page's parts that say it."""
        with self._lock:
            if time.time() - self.ladder.looked >= self.every:
                self.ladder.look()
                self.fits.start(list(self.ladder.runs.values()))
            # What came last is drawn too, though nothing else changes any more.
            known = self.ladder.version
            if self._drawn_of != known and (time.time() - self._drawn >= REDRAW or not self._curves):
                self._curves, self._drawn = curves(in_order(self.ladder)), time.time()
                self._drawn_of = known
            version = f"{known}.{self.fits.version}.{self.fits.busy:d}.{self._drawn_of}"
            if self._written[0] != version:
                fits = [self.fits.found[part] for part in sorted(self.fits.found)]
                self._written = version, state(self.ladder, fits, self.fits.busy, self._curves)
            return self._written


def server(watch: Watch, port: int = 0) -> ThreadingHTTPServer:
    """Bind 127.0.0.1 at `port` (0: one that is free). UserError where it is taken."""
    name = watch.ladder.folder.resolve().name

    class Handler(BaseHTTPRequestHandler):
        """Two addresses: the page, and its parts."""

        def do_GET(self) -> None:
            asked = urlsplit(self.path)
            # A name that leads here from elsewhere (DNS rebinding) is not answered.
            if (self.headers.get("Host") or "").rsplit(":", 1)[0] not in _LOCAL:
                self.send_error(403)
            elif asked.path == "/":
                nonce = secrets.token_urlsafe(16)
                self._answer(shell(name, watch.every, nonce), nonce=nonce)
            elif asked.path == "/state":
                version, parts = watch.state()
                since = parse_qs(asked.query).get("since", [""])[0]
                self._answer("" if since == version else parts, 204 if since == version else 200, version)
            else:
                self.send_error(404)

        def _answer(self, text: str, status: int = 200, version: str = "", nonce: str = "") -> None:
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("X-Version", version)
            policy = (
                "default-src 'none'",
                "style-src 'unsafe-inline'",
                "connect-src 'self'",
            )
            self.send_header("Content-Security-Policy", "; ".join([*policy, f"script-src 'nonce-{nonce}'"]))
            with contextlib.suppress(ConnectionError):  # the browser has gone
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing of what a browser asks."""

    try:
        return ThreadingHTTPServer(("127.0.0.1", port), Handler)
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        raise UserError(f"--port {port}: cannot be had ({why}); leave it out for a free one") from None
