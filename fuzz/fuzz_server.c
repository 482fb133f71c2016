/* A server and what its clients' connections go through, from the first byte
 * to the last: the engine as it is, over a kernel in memory. The input is a
 * stream of commands, for what arrives, how much is taken, the time that
 * passes and what fails; for what the program does meanwhile, and inside of
 * its handlers. Whatever happens, handlers are called in their order, what
 * is written is what was sent, nothing follows a Close frame, and everything
 * comes to its end. */
#include "engine/keepalive.h"
#include "engine/server_parts.h"
#include "protocol/message_stream.h"
#include "world.h"

enum { WAITS_MAX = 20000 }; /* the loop can't go on for ever */

static struct {
    bool stopped;
    bool ended;
    bool stopping;
    unsigned excluded; /* inside of the exclusion */
    unsigned waits;
    struct tws_deflate_pool *pool;
} run;

/* While the loop waits ---------------------------------------------------- */

static void
kernel_written(size_t index, const uint8_t *data, size_t length)
{
    struct visitor *visitor = &visitors[index];
    if (visitor->client != NULL || visitor->accepted) {
        static const char end[] = "\r\n\r\n";
        struct wire *wire = &visitor->wire;
        /* The 101 first; it ends where its blank line does. */
        while (wire->messages == UINT32_MAX && length > 0) {
            wire->length = *data == (uint8_t)end[wire->length]
                               ? wire->length + 1
                               : *data == '\r';
            data++;
            length--;
            if (wire->length == 4) {
                wire->length = 0;
                wire->messages = 0;
            }
        }
        wire_take(wire, data, length);
    }
}

/* Other threads of the program, too, while the loop waits. */
static void
go_on(void)
{
    uint8_t command;
    while ((command = input_byte(&input)) != 0) {
        size_t index = command % CONNECTIONS;
        command = (uint8_t)(command / CONNECTIONS);
        if (command < 44) {
            happen(&kernel.connections[index], command);
        }
        else if (command == 44) {
            uint8_t choice = input_byte(&input);
            tws_server_stop(server, 1001, letters('s', choice),
                            MILLISECOND << choice % 16);
            run.stopped = true;
        }
        else if (visitors[index].client != NULL) {
            use(&visitors[index], command);
        }
    }
}

static void
kernel_waits(uint64_t deadline)
{
    struct tws_ready ignored[CONNECTIONS + 1];
    run.waits++;
    require(run.waits < WAITS_MAX);
    require(run.excluded == 0);
    go_on();
    if (input.length > 0 || kernel.woken || kernel_ready(ignored) > 0
        || deadline <= kernel.now) {
        return;
    }
    if (!run.stopped) { /* nothing will happen any more */
        tws_server_stop(server, 1001, TWS_SPAN("bye"), 500 * MILLISECOND);
        run.stopped = true;
        return;
    }
    require(deadline != UINT64_MAX);
    kernel.now = deadline;
}

/* Handlers ---------------------------------------------------------------- */

static void *
leave(void *context)
{
    require(run.excluded == 1);
    run.excluded = 0;
    return context;
}

static void
enter(void *context, void *token)
{
    require(run.excluded == 0 && token == context);
    run.excluded = 1;
}

static struct visitor *
begin_handler(struct tws_client *client)
{
    struct visitor *visitor = client->user;
    require(run.excluded == 1);
    require(visitor != NULL && visitor->accepted && !visitor->over);
    require(!visitor->busy && tws_client_is_served_here(client));
    visitor->busy = true;
    return visitor;
}

static void
check_event(struct visitor *visitor, const struct tws_event *event)
{
    if (event->type == TWS_EVENT_TEXT
        || (event->type == TWS_EVENT_CHUNK && event->text)) {
        require(tws_utf8_valid(event->data, event->length));
    }
    require(event->type != TWS_EVENT_CHUNK || event->length <= TWS_CHUNK_MAX);
    require(event->type != TWS_EVENT_CLOSE);
    if (event->type <= TWS_EVENT_BINARY) {
        require(event->length <= server->options.message.size);
    }
    visitor->pings += event->type == TWS_EVENT_PING ? 1 : 0;
    require(visitor->wire.pongs <= visitor->pings + visitor->own_pongs);
}

/* Reads on in a handler, as a program does that calls recv(). */
static void
read_on(struct visitor *visitor, uint8_t choice)
{
    struct tws_client *client = visitor->client;
    struct tws_assembler *assembler = &client->receiving->assembler;
    struct tws_silence silence = {0};
    struct tws_event event;
    struct tws_error err;
    if ((choice & 1) != 0) {
        tws_message_stream_discard(assembler);
        visitor->chunked = false;
    }
    if ((choice & 2) != 0 && !visitor->chunked && client->collector == NULL) {
        if (tws_message_stream_begin(assembler, size_from(choice), &err)
            != TWS_OK) {
            tws_client_fail(client->worker, client, &err);
        }
        visitor->chunked = true;
    }
    enum tws_status status = tws_client_next(client->worker, client, &event);
    if (status == TWS_OK) {
        check_event(visitor, &event);
        if (event.type == TWS_EVENT_CHUNK) {
            require(visitor->chunked);
            if (event.length > 0) {
                tws_message_stream_consume(
                    assembler, (choice & 4) != 0 ? 1 : event.length);
            }
            else {
                tws_message_stream_end(assembler);
                visitor->chunked = false;
            }
        }
    }
    else if (status == TWS_AGAIN && (choice & 8) != 0) {
        (void)tws_server_before_wait(server);
        tws_client_flush(client);
        (void)tws_keepalive_wait(client, &silence);
        client->worker->drained = false;
        client->worker->reads = 0;
    }
    require(status == TWS_OK || status == TWS_AGAIN || status == TWS_EOF);
    require((status == TWS_EOF) == client->worker->over);
}

/* What a handler does. */
static void
act(struct visitor *visitor)
{
    uint8_t command;
    visitor->chunked = false;
    while ((command = input_byte(&input)) != 0) {
        struct visitor *other = &visitors[command % CONNECTIONS];
        uint8_t choice = (uint8_t)(command / CONNECTIONS);
        if (choice < 26) {
            use(visitor, choice);
        }
        else if (choice < 40) {
            happen(&kernel.connections[command % CONNECTIONS], choice);
        }
        else if (choice < 60) {
            /* Not in the handler that is told of the end. */
            if (visitor->client->worker != NULL) {
                read_on(visitor, choice);
            }
        }
        else if (other->client != NULL) {
            use(other, input_byte(&input));
        }
    }
}

static void
on_request(void *context, struct tws_handshake *handshake,
           const struct tws_http_head *head,
           const struct tws_handshake_request *request)
{
    struct visitor *visitor =
        &visitors[tws_handshake_fd(handshake) - FIRST_FD];
    uint8_t choice = input_byte(&input);
    struct tws_error err;
    (void)context;
    require(run.excluded == 1 && !visitor->accepted);
    require(tws_handshake_head(handshake, head).length > 0);
    if (input_byte(&input) % 8 == 7) {
        (void)tws_server_before_wait(server); /* it looks at a password */
    }
    if (!request->upgrade || choice % 16 == 15) {
        if (choice % 32 < 16) {
            require(
                tws_handshake_answer(
                    handshake, TWS_SPAN("HTTP/1.1 200 OK\r\n\r\nbody"), &err)
                == TWS_OK);
        }
        return; /* dropped, or answered */
    }
    if (choice % 16 == 14) {
        (void)tws_error_refused(&err, 401, "who are you?");
        tws_handshake_note_refusal(handshake, &err);
        require(tws_handshake_refuse(handshake, 401, "who?", false, &err)
                == TWS_OK);
        return;
    }
    static const struct tws_compression_terms terms = {
        .out = {.window_bits = 9, .mem_level = 1, .level = 1},
        .in_window_bits = 9,
        .threshold = 16,
    };
    struct tws_agreed agreed = {.extensions = TWS_SPAN("")};
    wire_begin(&visitor->wire, TWS_CLIENT);
    visitor->wire.messages = UINT32_MAX; /* see kernel_written() */
    if (choice % 16 >= 9) {
        struct tws_compression_terms own = terms;
        own.per_frame = (choice & 0x80) != 0;
        own.in_takeover = own.out_takeover = (choice & 0x40) != 0;
        agreed.compression = tws_compression_new(&own, run.pool);
        require(agreed.compression != NULL);
        agreed.rsv = TWS_RSV1;
        visitor->wire.deflates = true;
        visitor->wire.per_frame = own.per_frame;
        visitor->wire.takeover = own.out_takeover;
    }
    else if (choice % 16 >= 7) {
        agreed.raw_frames = true;
        agreed.rsv = choice & TWS_RSV;
        agreed.opcodes = 1 << 3 | 1 << 11;
    }
    visitor->accepted = true;
    enum tws_status status = tws_handshake_accept(handshake, request, &agreed,
                                                  NULL, 0, visitor, &err);
    if (status != TWS_OK) {
        require(status == TWS_REFUSED && err.http_status == 503);
        visitor->accepted = false;
        tws_compression_free(agreed.compression);
    }
}

static void
on_refused(void *context, const struct tws_address *peer,
           const struct tws_error *err)
{
    (void)context;
    require(run.excluded == 1 && peer->length > 0);
    require(err->status != TWS_OK && err->reason[0] != '\0');
}

static void
on_discard(void *context, void *user)
{
    struct visitor *visitor = user;
    (void)context;
    require(visitor->accepted && visitor->client == NULL && !visitor->over);
    visitor->accepted = false;
    visitor->over = true;
}

static void
on_open(void *context, struct tws_client *client)
{
    struct visitor *visitor = begin_handler(client);
    (void)context;
    require(!visitor->open && visitor->client == NULL);
    visitor->open = true;
    visitor->client = client;
    tws_client_retain(client);
    act(visitor);
    visitor->busy = false;
}

static void
on_event(void *context, struct tws_client *client,
         const struct tws_event *event)
{
    struct visitor *visitor = begin_handler(client);
    (void)context;
    require(visitor->open);
    check_event(visitor, event);
    act(visitor);
    visitor->busy = false;
}

static void
on_frame(void *context, struct tws_client *client,
         const struct tws_event *event)
{
    struct visitor *visitor = begin_handler(client);
    struct tws_error err;
    (void)context;
    require(visitor->open && client->collector != NULL);
    if (event->length % 16 == 15) {
        (void)tws_error_protocol(&err, 1002, "an extension does not like it");
        tws_client_fail(client->worker, client, &err);
    }
    else {
        (void)tws_client_note_message(client, 1, event->length);
        act(visitor);
    }
    visitor->busy = false;
}

static void
on_sent(void *context, struct tws_client *client, void *receipt)
{
    struct visitor *visitor = begin_handler(client);
    (void)context;
    require(visitor->open && receipt == visitor);
    require(take_receipt(visitor) <= visitor->wire.messages);
    act(visitor);
    visitor->busy = false;
}

static void
on_unsent(void *context, void *receipt)
{
    struct visitor *visitor = receipt;
    (void)context;
    require(visitor->over);
    (void)take_receipt(visitor);
}

static void
on_close(void *context, struct tws_client *client,
         const struct tws_ending *ending)
{
    struct visitor *visitor = client->user;
    char line[TWS_ENDING_LINE_MAX];
    (void)context;
    require(run.excluded == 1 && visitor->open && !visitor->busy);
    require(client->state >= TWS_CLIENT_LINGERING);
    require(ending->reason_length < sizeof(ending->reason));
    tws_ending_describe(ending, line);
    visitor->open = false;
    visitor->over = true;
    act(visitor);
}

static void
on_accept_paused(void *context, const struct tws_error *err)
{
    (void)context;
    require(err->status != TWS_OK);
}

static void
on_stopping(void *context)
{
    (void)context;
    require(!run.stopping);
    run.stopping = true;
}

static void
on_ended(void *context)
{
    (void)context;
    require(!run.ended && run.stopping);
    run.ended = true;
}

/* One run ----------------------------------------------------------------- */

static const struct tws_handlers handlers = {
    .leave = leave,
    .enter = enter,
    .request = on_request,
    .refused = on_refused,
    .discard = on_discard,
    .open = on_open,
    .message = on_event,
    .frame = on_frame,
    .ping = on_event,
    .pong = on_event,
    .sent = on_sent,
    .unsent = on_unsent,
    .close = on_close,
    .stopping = on_stopping,
    .accept_paused = on_accept_paused,
    .ended = on_ended,
};

static struct tws_server_options
choose_options(uint8_t choice)
{
    uint64_t never = UINT64_MAX;
    return (struct tws_server_options){
        .http = TWS_HTTP_LIMITS_DEFAULT,
        .message = {.size = (choice & 1) != 0 ? 100 : 1 << 20, .fragments = 8},
        .open_timeout = 1000 * MILLISECOND,
        .close_timeout = 300 * MILLISECOND,
        .ping_interval = (choice & 2) != 0 ? 2000 * MILLISECOND : never,
        .ping_timeout = 700 * MILLISECOND,
        .idle_timeout = (choice & 4) != 0 ? 3000 * MILLISECOND : never,
        .high_water = (choice & 8) != 0 ? 100 : 1 << 16,
        .low_water = (choice & 16) != 0 ? 0 : 50,
        .max_clients = (choice & 32) != 0 ? 1 : SIZE_MAX,
        .max_half_open = (choice & 64) != 0 ? 1 : 0,
        .max_threads = 1,
    };
}

static void
check_visitor(struct visitor *visitor)
{
    require(!visitor->open && !visitor->busy);
    require(visitor->receipts == 0);
    require(visitor->client == NULL || visitor->over);
    require(visitor->wire.pongs <= visitor->pings + visitor->own_pongs);
    if (visitor->client != NULL) {
        require(visitor->client->state == TWS_CLIENT_GONE);
        require(tws_client_queued(visitor->client) == 0);
        end_stream(visitor, true);
        tws_client_forget(visitor->client, &visitor->waiter);
        tws_client_release(visitor->client);
    }
    wire_end(&visitor->wire);
    size_t kept = offsetof(struct visitor, behind);
    memset((uint8_t *)visitor + kept, 0, sizeof(*visitor) - kept);
    memset(visitor, 0, kept);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tws_error err;
    if (size < 3) {
        return 0;
    }
    if (run.pool == NULL) {
        run.pool = tws_deflate_pool_new();
        require(run.pool != NULL);
    }
    kernel_begin();
    input = (struct input){.data = data, .length = size};
    uint8_t choice = input_byte(&input);
    struct tws_server_options options = choose_options(choice);
    run.stopped = run.ended = run.stopping = false;
    run.waits = 0;
    require(tws_server_new(LISTENER_FD, TWS_POLLER_BEST, &options, &handlers,
                           &server, &err)
            == TWS_OK);
    if ((choice & 0x80) != 0) { /* one that is there already */
        struct connection *connection = &kernel.connections[0];
        connection->waiting = true;
        connection->room = SIZE_MAX / 2;
        arrive_request(connection, 0);
    }
    run.excluded = 1;
    (void)tws_server_work(server, &err);
    run.excluded = 0;
    require(run.ended && run.stopping);
    for (size_t i = 0; i < CONNECTIONS; i++) {
        const struct connection *connection = &kernel.connections[i];
        require(!connection->accepted || connection->closed);
    }
    tws_server_free(server);
    for (size_t i = 0; i < CONNECTIONS; i++) {
        check_visitor(&visitors[i]);
    }
    return 0;
}
