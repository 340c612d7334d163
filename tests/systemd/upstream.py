"""A model server on 127.0.0.1:9009. The text of the last message says, as JSON, how it answers."""

import json
import threading
import time

import tools
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Upstream(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        call = json.loads(body)
        wish = json.loads(call["messages"][-1]["content"].split("\n")[0])
        # The end of the key tells which one it was.
        key = self.headers.get("Authorization", "")[-8:]
        text = f"pong {key} {len(body)}"
        self.send_response(200)
        if call.get("stream"):
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            time.sleep(wish.get("silence", 0))
            for place in range(wish.get("events", 3)):
                self.event(json.dumps(self.chunk({"role": "assistant", "content": f"{place} "}, None)))
                time.sleep(wish.get("gap", 0))
            self.event(json.dumps(self.chunk({}, "stop")))
            self.event("[DONE]")
            self.wfile.write(b"0\r\n\r\n")
            return
        time.sleep(wish.get("silence", 0))
        message = {"role": "assistant", "content": text}
        answer = {
            "id": "c1", "object": "chat.completion", "created": 1, "model": call["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
        }
        payload = json.dumps(answer).encode()
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def event(self, data):
        text = f"data: {data}\n\n".encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(text), text))
        self.wfile.flush()

    @staticmethod
    def chunk(delta, finish):
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}


class HomeAssistant(BaseHTTPRequestHandler):
    """Its server of tools, which asks for the token."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def tell(self, status, payload=b""):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def do_GET(self):
        self.tell(405)

    do_DELETE = do_GET

    def do_POST(self):
        message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.headers.get("Authorization") != "Bearer token-of-the-house-in-the-test":
            self.tell(401)
        elif self.path != "/api/mcp/assist":
            self.tell(404)
        else:
            answer = tools.answer(message)
            self.tell(200 if answer else 202, json.dumps(answer).encode() if answer else b"")


class Server(ThreadingHTTPServer):
    request_queue_size = 1024
    daemon_threads = True


threading.Thread(target=Server(("127.0.0.1", 8123), HomeAssistant).serve_forever, daemon=True).start()
Server(("127.0.0.1", 9009), Upstream).serve_forever()
