/* What befalls the connections of a server, as the input says: what arrives,
 * how much is taken, time that passes, and failures. */
#ifndef TWS_FUZZ_WORLD_H
#define TWS_FUZZ_WORLD_H

#include "kernel.h"
#include "peer_frame.h"
#include "program.h"

#define MILLISECOND UINT64_C(1000000)

static void
arrive(struct connection *connection, const void *data, size_t length)
{
    if (connection->start == connection->end) {
        connection->start = connection->end = 0;
    }
    if (connection->ended || length > ARRIVED_MAX - connection->end) {
        return;
    }
    memcpy(connection->arrived + connection->end, data, length);
    connection->end += length;
}

static void
arrive_request(struct connection *connection, uint8_t choice)
{
    static const char upgrade[] =
        "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n"
        "Connection: upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    static const char plain[] = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    static const char wrong[] = "GET / HTTP/1.1\n\n";
    switch (choice % 8) {
    case 6:
        arrive(connection, plain, sizeof(plain) - 1);
        break;
    case 7:
        arrive(connection, wrong, sizeof(wrong) - 1);
        break;
    default:
        arrive(connection, upgrade, sizeof(upgrade) - 1);
        break;
    }
}

/* A frame of a client, masked with zeros; several times where it says so. */
static void
arrive_frame(struct connection *connection)
{
    uint8_t first = input_byte(&input);
    uint8_t choice = input_byte(&input);
    uint8_t bytes[TWS_FRAME_HEADER_MAX + 1024];
    size_t length = size_from(choice) % 1024;
    size_t times = 1;
    if (first == 0xff) { /* a flood of pings */
        first = 0x89;
        times = (size_t)choice * 2;
    }
    size_t size = peer_frame(first, length, true, choice, bytes);
    for (size_t i = 0; i < times; i++) {
        arrive(connection, bytes, size);
    }
}

static void
happen(struct connection *connection, uint8_t command)
{
    static const int errors[] = {EMFILE, ECONNABORTED, EINTR, ENOBUFS};
    struct tws_span bytes;
    uint8_t choice;
    switch (command % 11) {
    case 0:
        connection->waiting = !connection->accepted;
        break;
    case 1:
    case 2:
        arrive_frame(connection);
        break;
    case 3:
        bytes = input_take(&input, input_byte(&input));
        arrive(connection, bytes.data, bytes.length);
        break;
    case 4:
        arrive_request(connection, input_byte(&input));
        break;
    case 5:
        connection->ended = true;
        break;
    case 6:
        choice = input_byte(&input);
        connection->room = choice == 255
                               ? SIZE_MAX / 2
                               : connection->room + size_from(choice);
        break;
    case 7:
        choice = input_byte(&input);
        kernel.now += MILLISECOND << choice % 16;
        break;
    case 8:
        connection->reset = connection->accepted && !connection->ended;
        break;
    case 9:
        choice = input_byte(&input);
        kernel.poller_fails = choice % 8 == 0;
        kernel.wait_fails = choice % 64 == 1;
        break;
    default:
        choice = input_byte(&input);
        kernel.accept_fails = errors[choice % TWS_ARRAY_SIZE(errors)];
        break;
    }
}

#endif /* TWS_FUZZ_WORLD_H */
