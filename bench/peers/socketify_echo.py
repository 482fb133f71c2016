"""Echoes with socketify, a binding of uWebSockets; prints the port.

usage: socketify_echo.py
"""

from socketify import App, CompressOptions


def echo(client, message, opcode):
    client.send(message, opcode)


app = App()
app.ws(
    '/*',
    {
        'compression': CompressOptions.DISABLED,
        'max_payload_length': 1 << 30,
        'max_backpressure': 1 << 30,
        'idle_timeout': 120,
        'message': echo,
    },
)
app.listen(0, lambda config: print(config.port, flush=True))
app.run()
