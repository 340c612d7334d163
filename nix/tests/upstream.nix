# A model server and a Home Assistant for the virtual machines: a few lines of Python.
{ pkgs }:
let
  program = pkgs.writers.writePython3Bin "upstream" { doCheck = false; } ''
    import http.server, json, sys, time

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def answer(self, status, kind, body):
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def tools(self, message):
            if "id" not in message:
                return self.answer(202, "application/json", b"")
            known = {
                "initialize": {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}},
                               "serverInfo": {"name": "house", "version": "1"}},
                "tools/list": {"tools": [{"name": "HassTurnOn", "inputSchema": {"type": "object"}}]},
            }
            said = {"jsonrpc": "2.0", "id": message["id"]}
            if message["method"] in known:
                said["result"] = known[message["method"]]
            else:
                said["error"] = {"code": -32601, "message": "Method not found"}
            return self.answer(200, "application/json", json.dumps(said).encode())

        def do_POST(self):
            asked = self.rfile.read(int(self.headers["content-length"]))
            if self.path.startswith("/api/mcp"):
                if self.headers.get("authorization") != "Bearer ha-token":
                    return self.answer(401, "text/plain", b"401: Unauthorized")
                return self.tools(json.loads(asked))
            call = json.loads(asked)
            key = self.headers.get("authorization", "none")
            if not call.get("stream"):
                message = {"role": "assistant", "content": key}
                whole = {"id": "1", "object": "chat.completion", "created": 1, "model": call["model"],
                         "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
                return self.answer(200, "application/json", json.dumps(whole).encode())
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.send_header("connection", "close")
            self.end_headers()
            for i in range(10):
                delta = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": call["model"],
                         "choices": [{"index": 0, "delta": {"content": str(i)},
                                      "finish_reason": "stop" if i == 9 else None}]}
                self.wfile.write(b"data: " + json.dumps(delta).encode() + b"\n\n")
                self.wfile.flush()
                time.sleep(0.3)
            self.wfile.write(b"data: [DONE]\n\n")

    http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
  '';
in
port: {
  wantedBy = [ "multi-user.target" ];
  serviceConfig.ExecStart = "${program}/bin/upstream ${toString port}";
}
