"""A server of tools, as the module starts one: JSON-RPC over standard input and output, or as Home Assistant's.

Its one tool tells who runs it, what it can see, and what it was started with.
"""

import json
import os
import sys

TOOL = {"name": "who", "description": "Tells.", "inputSchema": {"type": "object", "properties": {}}}


def readable(path):
    try:
        os.listdir(path)
        return True
    except OSError:
        return False


def told():
    return json.dumps({
        "uid": os.getuid(),
        "pid": os.getpid(),
        "words": sys.argv[1:],
        "names": sorted(os.environ),
        "secret_of_its_own": os.environ.get("FILES_TOKEN"),
        "sees": [path for path in ("/run/gateway-secrets", "/run/gateway", "/var/lib/gateway") if readable(path)],
    })


def answer(message):
    """The answer to a message; nothing for one that wants none."""
    if "id" not in message or "method" not in message:
        return None
    method, result, error = message["method"], None, None
    if method == "initialize":
        result = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}},
                  "serverInfo": {"name": "test", "version": "1"}}
    elif method == "tools/list":
        result = {"tools": [TOOL]}
    elif method == "tools/call":
        result = {"content": [{"type": "text", "text": told()}], "isError": False}
    elif method == "ping":
        result = {}
    else:
        error = {"code": -32601, "message": "Method not found"}
    return {"jsonrpc": "2.0", "id": message["id"], **({"error": error} if error else {"result": result})}


if __name__ == "__main__":
    for line in sys.stdin:
        said = answer(json.loads(line))
        if said:
            print(json.dumps(said), flush=True)
