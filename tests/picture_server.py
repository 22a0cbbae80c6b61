"""A loopback server of pictures and of what can go wrong when one is fetched."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.pictures import picture


def is_loopback(address):
    return str(address) == "127.0.0.1"


class _Pictures(BaseHTTPRequestHandler):
    """Answers /picture-N with a picture and the other paths with what can go wrong."""

    def do_GET(self):
        self.server.requests.append((self.path, self.headers["Host"]))
        name = self.path.strip("/")
        port = self.server.server_port
        redirects = {
            "moved": "/picture-1",
            "loop": "/loop",
            "inwards": f"http://127.0.0.2:{port}/picture-1",
            "to-file": "file:///etc/hostname",
        }
        if name.startswith("picture"):
            self.answer(200, picture(seed=int(name.split("-")[1])))
        elif name.startswith("busy"):  # busy-STATUS-TIMES
            _, status, times = name.split("-")
            asked = [path for path, _ in self.server.requests].count(self.path)
            self.answer(int(status) if asked <= int(times) else 200, picture())
        elif name in redirects:
            self.answer(302, b"", Location=redirects[name])
        elif name == "page":
            self.answer(200, b"<html>Not any more</html>")
        elif name == "half":
            self.answer(200, picture()[:2000])
        elif name == "announced":
            self.answer(200, b"", length=10**6)
        elif name == "unannounced":
            self.answer(200, picture() * 10, length=None)
        elif name == "silent":
            self.server.released.wait(8)
        elif name == "drip":
            self.answer(200, b"", length=10**4)
            while not self.server.released.wait(0.05):
                self.wfile.write(b"x")
        else:
            self.answer(404, b"gone")

    def answer(self, status, content, length=0, **headers):
        self.send_response(status)
        if length is not None:
            self.send_header("Content-Length", str(length or len(content)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments):
        """Say nothing."""


class PictureServer(ThreadingHTTPServer):
    """Start it with `with PictureServer() as server`; `server.requests` then lists (path, host) of what was asked."""

    request_queue_size = 64

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Pictures)
        self.requests, self.released = [], threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request, client_address):
        """A client that hangs up is expected here."""

    def __enter__(self):
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *exception):
        self.released.set()
        self.shutdown()
        self.server_close()
