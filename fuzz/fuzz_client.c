/* A client's connection over a transport in memory, from its request on: what
 * a server answers and sends, in whatever parts, while the program sends and
 * closes as the commands of the input say. What is written must be a client's
 * frames, in their order, and end with one Close frame. */
#include "net/asking.h"
#include "net/random.h"
#include "peer_frame.h"
#include "protocol/message_stream.h"
#include "protocol/session.h"
#include "wire.h"

enum { ARRIVED_MAX = 16 * 1024, OUT_MAX = 256 * 1024, LENGTH_MAX = 1024 };

/* The nonce of a handshake, so that its answer is known. */
enum tws_status
tws_random_bytes(void *out, size_t length, struct tws_error *err)
{
    (void)err;
    memset(out, 0, length);
    return TWS_OK;
}

#define ANSWER                                                                \
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"              \
    "Connection: Upgrade\r\n"                                                 \
    "Sec-WebSocket-Accept: ICX+Yqv66kxgM0FcWaLWlFLwTAI=\r\n"

static const uint8_t KEY[4] = {0x37, 0xfa, 0x21, 0x3d};

static struct client {
    struct input input;
    struct tws_transport transport;
    struct tws_asking asking;
    struct tws_frame_reader reader;
    struct tws_assembler assembler;
    struct tws_message_limits limits;
    struct tws_session session;
    struct tws_compression *compression;
    struct tws_buffer out;
    struct wire wire;
    bool connected;
    bool over;      /* nothing is read any more */
    bool streaming; /* a message in pieces */
    unsigned letters;
    unsigned pings;

    uint8_t arrived[ARRIVED_MAX];
    size_t start;
    size_t end;
    size_t room;
    size_t step; /* bytes that a read finds at most */
    bool ended;
    bool reset;
    size_t request_length; /* of what was written */
} client;

/* The transport ----------------------------------------------------------- */

static enum tws_status
give(struct tws_transport *transport, uint8_t *data, size_t size, size_t *got,
     struct tws_error *err)
{
    (void)transport;
    size_t length = client.end - client.start;
    if (client.reset) {
        return tws_error_os(err, 104, "recv");
    }
    if (length == 0) {
        return client.ended ? TWS_EOF : TWS_AGAIN;
    }
    length = length < size ? length : size;
    length = length < client.step ? length : client.step;
    memcpy(data, client.arrived + client.start, length);
    client.start += length;
    *got = length;
    return TWS_OK;
}

static enum tws_status
take(struct tws_transport *transport, const struct iovec *parts, int count,
     size_t *written, struct tws_error *err)
{
    (void)transport;
    size_t length = parts[0].iov_len;
    require(count == 1 && length > 0);
    if (client.reset) {
        return tws_error_os(err, 32, "send");
    }
    if (client.room == 0) {
        return TWS_AGAIN;
    }
    length = length < client.room ? length : client.room;
    client.room -= length;
    *written = length;
    if (client.connected) {
        wire_take(&client.wire, parts[0].iov_base, length);
    }
    else {
        client.request_length += length;
    }
    return TWS_OK;
}

static const struct tws_transport_ops memory_ops = {
    .read = give,
    .writev = take,
};

static void
arrive(const void *data, size_t length)
{
    if (client.start == client.end) {
        client.start = client.end = 0;
    }
    if (!client.ended && length <= ARRIVED_MAX - client.end) {
        memcpy(client.arrived + client.end, data, length);
        client.end += length;
    }
}

static void
arrive_frame(void)
{
    uint8_t first = input_byte(&client.input);
    uint8_t choice = input_byte(&client.input);
    uint8_t bytes[TWS_FRAME_HEADER_MAX + LENGTH_MAX];
    size_t length = choice < 200 ? choice : (size_t)choice * 4;
    arrive(bytes, peer_frame(first, length, false, choice, bytes));
}

/* Out --------------------------------------------------------------------- */

static void
queue(const void *data, size_t length)
{
    require(tws_buffer_append(&client.out, data, length) == TWS_OK);
}

static void
flush(void)
{
    struct tws_error err;
    enum tws_status status = TWS_OK;
    while (status == TWS_OK && tws_buffer_length(&client.out) > 0) {
        size_t written;
        status = tws_write(&client.transport, tws_buffer_data(&client.out),
                           tws_buffer_length(&client.out), &written, &err);
        if (status == TWS_OK) {
            tws_buffer_consume(&client.out, written);
        }
    }
    client.over = client.over || status == TWS_OS;
}

/* A frame of one letter, masked, and perhaps compressed. */
static void
queue_frame(struct tws_frame_header header, char letter)
{
    uint8_t bytes[TWS_FRAME_HEADER_MAX];
    uint8_t payload[LENGTH_MAX];
    struct tws_buffer packed = TWS_BUFFER_EMPTY;
    struct tws_span data = {.data = (char *)payload,
                            .length = (size_t)header.length};
    struct tws_error err;
    memset(payload, letter, data.length);
    if ((header.rsv & TWS_RSV1) != 0) {
        require(tws_compression_deflate(client.compression, data, true,
                                        &packed, &err)
                == TWS_OK);
        data = tws_buffer_span(&packed);
        header.length = data.length;
    }
    header.masked = true;
    memcpy(header.key, KEY, sizeof(KEY));
    queue(bytes, tws_frame_header_encode(&header, bytes));
    for (size_t i = 0; i < data.length; i++) {
        uint8_t byte = (uint8_t)data.data[i] ^ KEY[i % 4];
        queue(&byte, 1);
    }
    tws_buffer_release(&packed);
}

static void
send_message(bool in_pieces)
{
    uint8_t choice = input_byte(&client.input);
    size_t length = input_byte(&client.input) * (choice % 5);
    bool first = !client.streaming;
    if (client.session.sent_code != 0
        || tws_buffer_length(&client.out) > OUT_MAX
        || (!in_pieces && client.streaming)) {
        return;
    }
    struct wire_message message = {
        .opcode = (choice & 8) != 0 ? TWS_OPCODE_TEXT : TWS_OPCODE_BINARY,
        .letter = (char)('a' + client.letters % 26),
    };
    struct tws_frame_header header = {
        .fin = !in_pieces || (choice & 16) != 0,
        .opcode = first ? message.opcode : TWS_OPCODE_CONTINUATION,
        .length = length,
    };
    if (first) {
        if (!wire_expect(&client.wire, message)) {
            return;
        }
        client.letters++;
        header.rsv = client.compression != NULL && !in_pieces ? TWS_RSV1 : 0;
    }
    struct wire_message *due = wire_last(&client.wire);
    due->length += length;
    due->unfinished = !header.fin;
    client.streaming = !header.fin;
    queue_frame(header, due->letter);
}

static void
queue_control(const struct tws_control *control)
{
    queue(control->bytes, control->length);
}

static void
say_close(uint16_t code, struct tws_span reason)
{
    struct tws_control control;
    bool before = client.session.sent_code != 0;
    tws_session_close(&client.session, code, reason, KEY, &control);
    require(before == (control.length == 0));
    require(before || tws_control_is_close(&control));
    queue_control(&control);
}

static void
ping(void)
{
    struct tws_control control;
    if (client.session.sent_code == 0) {
        tws_control_pack(&control, TWS_OPCODE_PING, KEY, sizeof(KEY), KEY);
        queue_control(&control);
    }
}

/* In ---------------------------------------------------------------------- */

static void
take_event(const struct tws_event *event)
{
    struct tws_control reply;
    bool closed = client.session.sent_code != 0;
    if (event->type == TWS_EVENT_TEXT
        || (event->type == TWS_EVENT_CHUNK && event->text)) {
        require(tws_utf8_valid(event->data, event->length));
    }
    if (event->type <= TWS_EVENT_BINARY) {
        require(event->length <= client.limits.size);
    }
    client.pings += event->type == TWS_EVENT_PING ? 1 : 0;
    bool concerns = tws_session_take(&client.session, event, KEY, &reply);
    require(concerns == (!closed || event->type == TWS_EVENT_CLOSE));
    require(!closed || reply.length == 0);
    queue_control(&reply);
    if (event->type == TWS_EVENT_CLOSE) {
        client.over = true;
        require(tws_session_finished(&client.session));
    }
    if (event->type == TWS_EVENT_CHUNK && event->length > 0) {
        tws_message_stream_consume(&client.assembler, event->length);
    }
    else if (event->type == TWS_EVENT_CHUNK) {
        tws_message_stream_end(&client.assembler);
    }
}

static void
receive(uint8_t *data, size_t length)
{
    struct tws_input bytes = {.data = data, .length = length};
    enum tws_status status = TWS_OK;
    struct tws_error err;
    while (status == TWS_OK && !client.over) {
        struct tws_event event;
        status = tws_receive(&client.reader, &client.assembler, &client.limits,
                             &bytes, &event, &err);
        if (status == TWS_OK) {
            take_event(&event);
        }
    }
    if (status == TWS_PROTOCOL) {
        struct tws_span reason = {.data = err.reason,
                                  .length = strlen(err.reason)};
        require(tws_close_code_on_wire(err.close_code));
        say_close(err.close_code, reason);
        client.over = true;
    }
    require(status != TWS_NOMEM);
}

static void
read_all(void)
{
    enum tws_status status = TWS_OK;
    while (status == TWS_OK && !client.over) {
        uint8_t scratch[256];
        struct tws_error err;
        size_t got;
        status =
            tws_read(&client.transport, scratch, sizeof(scratch), &got, &err);
        if (status == TWS_OK) {
            uint8_t *copy = exact_begin(scratch, got);
            receive(copy, got);
            exact_end(copy);
        }
    }
    client.over = client.over || (status != TWS_OK && status != TWS_AGAIN);
}

/* One run ----------------------------------------------------------------- */

static void
agree(uint8_t choice)
{
    static struct tws_deflate_pool *pool;
    const struct tws_compression_terms terms = {
        .out = {.window_bits = 9, .mem_level = 1, .level = 1},
        .in_window_bits = 9,
        .out_takeover = (choice & 2) != 0,
        .in_takeover = (choice & 2) != 0,
    };
    tws_frame_reader_init(&client.reader, TWS_CLIENT);
    if ((choice & 1) != 0) {
        if (pool == NULL) {
            pool = tws_deflate_pool_new();
        }
        client.compression = tws_compression_new(&terms, pool);
        require(client.compression != NULL);
        client.reader.rsv_allowed = TWS_RSV1;
        client.assembler.compression = client.compression;
        client.wire.deflates = true;
        client.wire.takeover = terms.out_takeover;
    }
}

static void
go_on_asking(uint8_t choice)
{
    unsigned events = 0;
    struct tws_error err = {0};
    struct tws_http_head head;
    enum tws_status status =
        tws_asking_advance(&client.asking, &client.transport, &events, &err);
    if (status == TWS_AGAIN) {
        require(events == TWS_WAIT_READ || events == TWS_WAIT_WRITE);
        require(events == TWS_WAIT_READ || client.room == 0);
        return;
    }
    if (status != TWS_OK) {
        require(err.status == status && err.reason[0] != '\0');
        require(tws_asking_body(&client.asking).length <= TWS_ASKING_BODY_MAX);
        client.over = true;
        return;
    }
    require(tws_asking_request(&client.asking, &head, &err) == TWS_OK);
    require(tws_asking_answer(&client.asking, &head, &err) == TWS_OK);
    require(head.status == 101);
    struct tws_span rest = tws_asking_rest(&client.asking);
    client.connected = true;
    agree(choice);
    uint8_t *copy = exact_begin(rest.data, rest.length);
    receive(copy, rest.length);
    exact_end(copy);
}

static void
act(uint8_t command)
{
    struct tws_span bytes;
    struct tws_error err;
    uint8_t choice = input_byte(&client.input);
    switch (command % 12) {
    case 0:
        bytes = input_take(&client.input, choice);
        arrive(bytes.data, bytes.length);
        break;
    case 1:
    case 2:
        arrive_frame();
        break;
    case 3:
        client.step = choice == 0 ? SIZE_MAX : choice;
        break;
    case 4:
        client.room += choice == 255 ? SIZE_MAX / 4 : choice;
        break;
    case 5:
        arrive(ANSWER "\r\n", sizeof(ANSWER) + 1);
        break;
    case 6:
        client.ended = choice % 2 == 0;
        client.reset = choice % 8 == 1;
        break;
    case 7:
        if (client.connected) {
            send_message(choice % 2 == 0);
        }
        break;
    case 8:
        if (client.connected) {
            ping();
        }
        break;
    case 9:
        if (client.connected && choice % 4 == 0) {
            say_close(1000 + choice / 64, TWS_SPAN("enough"));
        }
        break;
    case 10:
        if (client.connected) {
            (void)tws_message_stream_begin(&client.assembler, choice * 4U,
                                           &err);
        }
        break;
    default:
        tws_message_stream_discard(&client.assembler);
        break;
    }
}

static void
begin(uint8_t choice)
{
    static const struct tws_http_limits limits = {.head_bytes = 512,
                                                  .field_count = 8};
    static const struct tws_handshake_offer offer = {
        .target = {"/", 1},
        .host = {"a", 1},
        .extensions = {"permessage-deflate", 18},
    };
    struct tws_error err;
    size_t kept = offsetof(struct client, wire);
    memset(&client, 0, kept);
    wire_begin(&client.wire, TWS_SERVER);
    kept = offsetof(struct client, connected);
    memset((uint8_t *)&client + kept, 0,
           offsetof(struct client, arrived) - kept);
    client.start = client.end = client.request_length = 0;
    client.ended = client.reset = false;
    client.step = SIZE_MAX;
    client.room = (choice & 4) != 0 ? 1 << 20 : 0;
    client.transport = (struct tws_transport){.ops = &memory_ops, .fd = -1};
    client.limits = (struct tws_message_limits){
        .size = (choice & 8) != 0 ? 200 : 1 << 20, .fragments = 5};
    require(tws_asking_init(&client.asking, &offer, &limits, &err) == TWS_OK);
    if ((choice & 16) != 0) {
        arrive(ANSWER "\r\n", sizeof(ANSWER) + 1);
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) {
        return 0;
    }
    uint8_t choice = data[0];
    begin(choice);
    client.input = (struct input){.data = data + 1, .length = size - 1};
    while (client.input.length > 0 && !client.over) {
        if (!client.connected) {
            go_on_asking(choice);
        }
        else {
            read_all();
            flush();
        }
        act(input_byte(&client.input));
    }
    client.room = SIZE_MAX / 2;
    if (client.connected) {
        say_close(TWS_CLOSE_NORMAL, TWS_SPAN("bye"));
        flush();
        require(client.reset || client.wire.close_code != 0);
        require(client.reset
                || client.wire.close_code == client.session.sent_code);
        require(client.wire.pongs <= client.pings);
    }
    tws_buffer_release(&client.out);
    tws_assembler_release(&client.assembler);
    tws_compression_free(client.compression);
    tws_asking_release(&client.asking);
    wire_end(&client.wire);
    return 0;
}
