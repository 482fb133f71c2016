import zlib

import twspy


class Checksum(twspy.Extension):
    """Puts a CRC-32 behind each message, and looks at it on arrival."""

    name = 'x-checksum'
    rsv2 = True  # marks the messages that have one
    before_fragmentation = True

    def offer(self):  # by a client
        return {'bits': 32}

    def negotiate(self, params):  # on a server: the answer, or None
        return params if params == {'bits': '32'} else None

    def accept(self, params):  # on the client again
        if params != {'bits': '32'}:
            raise ValueError('expected bits=32')

    def onsend(self, frame):
        check = zlib.crc32(frame.payload).to_bytes(4, 'big')
        return self.change(frame, frame.payload + check, True)

    def onrecv(self, frame):
        if not frame.rsv2:
            return frame
        payload, check = frame.payload[:-4], frame.payload[-4:]
        if zlib.crc32(payload).to_bytes(4, 'big') != check:
            raise twspy.ProtocolError('the checksum is wrong', 1007)
        return self.change(frame, payload, False)

    def change(self, frame, payload, marked):  # and leave the rest as it is
        return twspy.Frame(
            frame.opcode,
            payload,
            rsv1=frame.rsv1,
            rsv2=marked,
            rsv3=frame.rsv3,
        )


class Reflector(twspy.Server):
    def onmessage(self, client, message):
        client.send(message)


server = Reflector(
    ('127.0.0.1', 0), extensions=[Checksum], trusted_origins='same-origin'
)
with server:
    connection = twspy.connect(
        f'ws://127.0.0.1:{server.address[1]}/', extensions=[Checksum]
    )
    with connection:
        connection.send('Hello, checked!')
        print(connection.recv().payload, connection.extensions)
