"""Functions that clients call by JSON-RPC 2.0 (jsonrpc.org).

python json_rpc.py [PORT]

Try it: twspy connect ws://127.0.0.1:8000/
> {"jsonrpc": "2.0", "method": "add", "params": [2, 3], "id": 1}
< {"jsonrpc": "2.0", "id": 1, "result": 5}
"""

import inspect
import json
import sys

import twspy

METHODS = {}


def method(function):
    """Let clients call a function."""
    METHODS[function.__name__] = function
    return function


@method
def add(a: float, b: float):
    return a + b


@method
def greet(name: str = 'world'):
    return f'Hello, {name}!'


class RPCError(Exception):
    def __init__(self, code, text):
        super().__init__(text)
        self.code = code


def call(request):
    """The result of one request."""
    if not isinstance(request, dict) or 'method' not in request:
        raise RPCError(-32600, 'expected an object with a method')
    function = METHODS.get(str(request['method']))
    if function is None:
        raise RPCError(-32601, 'there is no such method')
    params = request.get('params', [])
    positional, named = (
        ([], params) if isinstance(params, dict) else (params, {})
    )
    try:
        inspect.signature(function).bind(*positional, **named)
        return function(*positional, **named)
    except TypeError as error:
        raise RPCError(-32602, str(error)) from error


def answer(text):
    """The answer to a message; None for a notification, which has no id."""
    number = None
    try:
        request = json.loads(text)
        number = request.get('id') if isinstance(request, dict) else None
        result = {'result': call(request)}
        if 'id' not in request:
            return None
    except ValueError:
        result = {'error': {'code': -32700, 'message': 'expected JSON'}}
    except RPCError as error:
        result = {'error': {'code': error.code, 'message': str(error)}}
    return json.dumps({'jsonrpc': '2.0', 'id': number, **result})


class RPCServer(twspy.Server):
    def onmessage(self, client, message):
        reply = answer(message.payload)
        if reply is not None:
            client.send(reply)


if __name__ == '__main__':
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    RPCServer(('127.0.0.1', port), trusted_origins='same-origin').run()
