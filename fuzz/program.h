/* A program that uses a server's clients in every way it may, as the input
 * says, and keeps count of what it is owed. */
#ifndef TWS_FUZZ_PROGRAM_H
#define TWS_FUZZ_PROGRAM_H

#include "engine/client_parts.h"
#include "engine/server_parts.h"
#include "kernel.h"
#include "wire.h"

enum { PAYLOAD_MAX = 64 * 1024, CONTROL_LETTERS = 125 };

/* Of one client, from its request to the last reference. */
struct visitor {
    struct tws_client *client; /* a reference; NULL: there is none (yet) */
    struct wire wire;
    struct tws_agreed agreed;

    bool accepted; /* the server has it as `user` */
    bool open;     /* between handlers->open and ->close */
    bool busy;     /* inside of one of its handlers */
    bool over;     /* handlers->close was called */
    bool chunked;  /* asked for a message in chunks in this handler */

    bool streaming; /* a message in pieces */
    bool begun;
    bool done;
    struct wire_message behind[WIRE_MESSAGES]; /* waits for its end */
    size_t behind_count;

    struct tws_waiter waiter;
    bool waits; /* to be woken */

    uint64_t sent;     /* bytes the program has asked to be sent */
    unsigned letters;  /* so far: each message has its own */
    unsigned receipts; /* given and not back yet */
    unsigned promised[WIRE_MESSAGES]; /* by each of them: so many messages
                                       * have left when it is back */
    unsigned pings;                   /* that have come */
    unsigned own_pongs;               /* that the program has sent */
};

static struct visitor visitors[CONNECTIONS];
static struct tws_server *server;
static struct input input;

static size_t
size_from(uint8_t byte)
{
    return byte < 128   ? byte
           : byte < 200 ? (size_t)(byte - 128) * 32
                        : (size_t)(byte - 199) * 1150;
}

/* Many of one letter; of any kind of text. */
static struct tws_span
letters(char letter, size_t length)
{
    static char memory[PAYLOAD_MAX];
    require(length <= sizeof(memory));
    if (length > 0) {
        memset(memory, letter, length);
    }
    return (struct tws_span){.data = memory, .length = length};
}

static struct wire_message
new_message(struct visitor *visitor, uint8_t choice, size_t length)
{
    struct wire_message message = {
        .length = length,
        .opcode = (choice & 1) != 0 ? TWS_OPCODE_TEXT : TWS_OPCODE_BINARY,
        .letter = (char)('a' + visitor->letters % 26),
    };
    visitor->letters++;
    return message;
}

/* A message is about to be sent; false: enough for one run. */
static bool
expect(struct visitor *visitor, struct wire_message message)
{
    size_t count = visitor->wire.due_count + visitor->behind_count;
    if (count == WIRE_MESSAGES) {
        return false;
    }
    visitor->sent += message.length;
    if (!visitor->streaming) {
        return wire_expect(&visitor->wire, message);
    }
    visitor->behind[visitor->behind_count] = message;
    visitor->behind_count++;
    return true;
}

/* Of what was expected last; NULL: none is wanted. It may be back before the
 * call that gives it returns. */
static void *
give_receipt(struct visitor *visitor, bool wanted)
{
    if (!wanted || visitor->receipts == WIRE_MESSAGES) {
        return NULL;
    }
    visitor->promised[visitor->receipts] = visitor->wire.messages
                                           + (unsigned)visitor->wire.due_count
                                           + (unsigned)visitor->behind_count;
    visitor->receipts++;
    return visitor;
}

/* They come back in the order of sending. */
static unsigned
take_receipt(struct visitor *visitor)
{
    unsigned promised = visitor->promised[0];
    require(visitor->receipts > 0);
    visitor->receipts--;
    memmove(visitor->promised, visitor->promised + 1,
            visitor->receipts * sizeof(unsigned));
    return promised;
}

/* One thread does it all: no lock. */
static bool
can_send(const struct visitor *visitor)
{
    return visitor->client->state == TWS_CLIENT_OPEN
           && !tws_client_is_lost_lock_held(visitor->client);
}

/* And this came of it. */
static void
settle(struct visitor *visitor, enum tws_status status)
{
    require(status == TWS_OK || status == TWS_EOF || status == TWS_AGAIN);
    if (status == TWS_OK) {
        return;
    }
    require(status == TWS_AGAIN || !can_send(visitor));
    if (visitor->streaming) {
        visitor->behind_count--;
    }
    else {
        wire_retract(&visitor->wire);
    }
}

/* Sending ----------------------------------------------------------------- */

static void
send_message(struct visitor *visitor)
{
    uint8_t choice = input_byte(&input);
    size_t length = size_from(input_byte(&input));
    struct wire_message message = new_message(visitor, choice, length);
    struct tws_client_message outgoing = {
        .payload = letters(message.letter, length),
        .opcode = message.opcode,
        .fragment = (choice & 2) != 0 ? input_byte(&input) + length / 16 : 0,
        .compress = (uint8_t)((choice >> 3) % 3),
        .at_once = (choice & 0x80) != 0,
    };
    struct tws_error err;
    if (!expect(visitor, message)) {
        return;
    }
    outgoing.receipt = give_receipt(visitor, (choice & 4) != 0);
    enum tws_status status =
        tws_client_send_message(visitor->client, &outgoing, &err);
    if (status != TWS_OK) {
        visitor->receipts -= outgoing.receipt != NULL ? 1 : 0;
    }
    require(status != TWS_AGAIN); /* nobody else compresses */
    settle(visitor, status);
}

static void
send_control(struct visitor *visitor)
{
    uint8_t choice = input_byte(&input);
    uint8_t opcode = (choice & 1) != 0 ? TWS_OPCODE_PING : TWS_OPCODE_PONG;
    size_t length = (choice >> 1) % (CONTROL_LETTERS + 1);
    struct tws_error err;
    visitor->sent += length;
    visitor->own_pongs += opcode == TWS_OPCODE_PONG ? 1 : 0;
    enum tws_status status = tws_client_send(
        visitor->client, opcode, letters('.', length), 0, NULL, &err);
    require(status == TWS_OK || status == TWS_EOF);
}

/* A frame that the program has packed itself. */
static void
send_packed(struct visitor *visitor, bool foreign)
{
    uint8_t choice = input_byte(&input);
    size_t length = size_from(input_byte(&input)) % 1000;
    uint8_t bytes[TWS_FRAME_HEADER_MAX + 1000];
    struct wire_message message = new_message(visitor, choice, length);
    enum tws_standing standing =
        (choice & 2) != 0 ? TWS_STANDS_BETWEEN : TWS_STANDS_ALONE;
    struct tws_frame_header header = {
        .opcode = message.opcode, .fin = true, .length = length};
    struct tws_error err;
    enum tws_status status;
    if (standing == TWS_STANDS_BETWEEN) {
        header.opcode = TWS_OPCODE_PING;
        header.length = length = length % (CONTROL_LETTERS + 1);
        visitor->sent += length;
    }
    else if (!expect(visitor, message)) {
        return;
    }
    size_t size = tws_frame_header_encode(&header, bytes);
    memset(bytes + size, message.letter, length);
    struct tws_span frames = {.data = (const char *)bytes,
                              .length = size + length};
    if (foreign) {
        status =
            tws_client_send_foreign(visitor->client, frames, standing, &err);
    }
    else {
        void *receipt = give_receipt(
            visitor, (choice & 4) != 0 && standing == TWS_STANDS_ALONE);
        status = tws_client_send_packed(visitor->client, frames, standing, 1,
                                        length, receipt, &err);
        visitor->receipts -= receipt != NULL && status != TWS_OK ? 1 : 0;
    }
    if (standing == TWS_STANDS_ALONE) {
        settle(visitor, status);
    }
}

/* As a broadcast does it. */
static void
send_shared(struct visitor *visitor)
{
    uint8_t choice = input_byte(&input);
    size_t length = size_from(input_byte(&input));
    struct wire_message message = new_message(visitor, choice, length);
    struct tws_buffer frame = TWS_BUFFER_EMPTY;
    struct tws_error err;
    if (visitor->client->state == TWS_CLIENT_GONE
        || !expect(visitor, message)) {
        return;
    }
    require(tws_client_pack_shared(visitor->client, message.opcode,
                                   letters(message.letter, length), &frame,
                                   &err)
            == TWS_OK);
    settle(visitor,
           tws_client_send_shared(visitor->client, tws_buffer_span(&frame),
                                  length, NULL, &err));
    tws_buffer_release(&frame);
}

/* A message in pieces ----------------------------------------------------- */

static void
begin_stream(struct visitor *visitor)
{
    uint8_t choice = input_byte(&input);
    struct tws_error err;
    enum tws_status status = tws_client_begin_stream(
        visitor->client, visitor, (enum tws_compress)(choice % 3), &err);
    if (status == TWS_OK) {
        require(!visitor->streaming);
        visitor->streaming = true;
        visitor->begun = visitor->done = false;
    }
    else {
        require(status == (can_send(visitor) ? TWS_AGAIN : TWS_EOF));
    }
}

static void
send_fragment(struct visitor *visitor)
{
    uint8_t choice = input_byte(&input);
    size_t length = size_from(input_byte(&input));
    struct wire *wire = &visitor->wire;
    struct tws_error err;
    bool fin = choice % 4 == 3;
    bool first = !visitor->begun;
    if (!visitor->streaming || visitor->done) {
        return;
    }
    if (first) {
        struct wire_message message = new_message(visitor, choice / 4, 0);
        message.unfinished = true;
        if (!wire_expect(wire, message)) {
            return;
        }
    }
    else if (visitor->client->state != TWS_CLIENT_OPEN) {
        return; /* what was due may be gone */
    }
    struct wire_message *message = wire_last(wire);
    message->length += length;
    message->unfinished = !fin;
    visitor->sent += length;
    struct tws_span whole = letters(message->letter, length);
    size_t half = choice % 2 == 0 ? 0 : length / 2;
    struct tws_span parts[2] = {
        {.data = whole.data, .length = half},
        {.data = whole.data + half, .length = length - half},
    };
    enum tws_status status = tws_client_send_fragment(
        visitor->client, first ? message->opcode : TWS_OPCODE_CONTINUATION,
        fin, parts, &err);
    if (status == TWS_OK) {
        visitor->begun = true;
        visitor->done = fin;
        return;
    }
    require(status == TWS_EOF && !can_send(visitor));
    if (first) {
        wire_retract(wire);
    }
    else {
        message->length -= length;
        message->unfinished = true;
    }
}

static void
end_stream(struct visitor *visitor, bool politely)
{
    struct tws_error err;
    if (!visitor->streaming) {
        tws_client_end_stream(visitor->client, visitor);
        return;
    }
    if (visitor->begun && !visitor->done && politely) {
        (void)tws_client_close(visitor->client, TWS_CLOSE_UNABLE,
                               TWS_SPAN("unfinished"), TWS_ENDED_BY_US, &err);
    }
    else if (visitor->begun && !visitor->done) {
        tws_client_break_off(visitor->client, TWS_ENDED_BY_US, "unfinished");
    }
    visitor->streaming = false;
    for (size_t i = 0; i < visitor->behind_count; i++) {
        if (visitor->client->state == TWS_CLIENT_OPEN) {
            require(wire_expect(&visitor->wire, visitor->behind[i]));
        }
    }
    visitor->behind_count = 0;
    tws_client_end_stream(visitor->client, visitor);
}

/* The rest ---------------------------------------------------------------- */

static void
close_it(struct visitor *visitor)
{
    static const uint16_t codes[] = {1000, 1001, 1005, 1011, 3000, 4999};
    uint8_t choice = input_byte(&input);
    struct tws_error err;
    bool open = visitor->client->state == TWS_CLIENT_OPEN;
    enum tws_status status = tws_client_close(
        visitor->client, codes[choice % TWS_ARRAY_SIZE(codes)],
        letters('!', choice), TWS_ENDED_BY_US, &err);
    require(status == (open ? TWS_OK : TWS_EOF));
    require(visitor->client->state != TWS_CLIENT_OPEN);
}

static void
wake(struct tws_waiter *waiter)
{
    void *start = (char *)waiter - offsetof(struct visitor, waiter);
    struct visitor *visitor = start;
    require(visitor->waits && !waiter->linked);
    visitor->waits = false;
}

static void
await(struct visitor *visitor)
{
    uint8_t choice = input_byte(&input);
    visitor->waiter.wake = wake;
    if (choice % 4 == 3) {
        tws_client_forget(visitor->client, &visitor->waiter);
        visitor->waits = false;
        return;
    }
    bool waited = visitor->waits;
    visitor->waits = true;
    if (!tws_client_await(visitor->client, (enum tws_await)(choice % 4),
                          &visitor->waiter)) {
        visitor->waits = waited;
    }
}

static void
look(struct visitor *visitor)
{
    struct tws_ending ending;
    struct tws_stats stats;
    char line[TWS_ENDING_LINE_MAX];
    tws_client_describe_closing(visitor->client, &ending);
    tws_ending_describe(&ending, line);
    tws_server_stats(server, &stats);
    require(stats.clients <= CONNECTIONS && stats.threads <= 1);
    require(tws_client_queued(visitor->client)
            <= 2 * visitor->sent + 256 * 1024);
}

/* What any thread may do with a client that it has a reference to. */
static void
use(struct visitor *visitor, uint8_t command)
{
    bool deflates = visitor->client->compression != NULL;
    switch (command % 13) {
    case 0:
    case 1:
        send_message(visitor);
        break;
    case 2:
        send_control(visitor);
        break;
    case 3:
        send_packed(visitor, false);
        break;
    case 4:
        begin_stream(visitor);
        break;
    case 5:
        send_fragment(visitor);
        break;
    case 6:
        end_stream(visitor, input_byte(&input) % 2 == 0);
        break;
    case 7:
        close_it(visitor);
        break;
    case 8:
        if (deflates) {
            send_shared(visitor);
        }
        break;
    case 9:
        if (deflates) {
            send_packed(visitor, true);
        }
        break;
    case 10:
        await(visitor);
        break;
    case 11:
        tws_client_flush(visitor->client);
        look(visitor);
        break;
    default:
        if (input_byte(&input) % 4 == 0) {
            tws_client_break_off(visitor->client, TWS_ENDED_BY_US, "enough");
        }
        break;
    }
}

#endif /* TWS_FUZZ_PROGRAM_H */
