/* The whole engine at once: peers that send bursts, read slowly, close, fall
 * silent or vanish, plain and over TLS by turns; handlers that sleep, read on,
 * send to others, close and break off; threads from outside that send to
 * everybody, and a stop amid all of it. Whatever happens, every open has its
 * close, nothing of a client overlaps, answers come in the order of what was
 * asked, and messages come whole, compressed in some of the rounds. For the
 * thread sanitizer above all. */
#include "engine_tls.h"

enum {
    PEERS = 8,   /* threads that visit the server again and again */
    SENDERS = 2, /* threads that send to whoever is there */
    ROUNDS = 4,  /* in each way */
    ROUND_MS = 300,
    BURST_MAX = 30,
    SMALL = 2000,      /* bytes in most messages, at most */
    LARGE = 40 * 1000, /* and in some */
    HIGH_WATER = 32 * 1024,
    SEND_ROOM = 32 * 1024, /* the kernel's: queues fill quickly */
    FEW = 16,              /* clients that a sender looks at in a turn */
    KEY_LENGTH = 7,        /* "000012e": a number and what is to be done */
    NO_ROOM = 4 << 20,     /* a queue longer than this was not bounded */
};

enum kind_of_peer {
    POLITE,
    SLOW,      /* reads late, through a small buffer */
    DISMISSED, /* the handler of its last message closes it */
    DOOMED,    /* another thread closes it or breaks it off */
    THROWN,    /* the handler of its last message breaks it off */
    RUDE,      /* its last frame is not masked */
    HALF,      /* ends its side before it reads */
    VANISHING, /* resets amid everything */
    TORN,      /* and amid a frame */
    NEVER,     /* does not finish its handshake */
    KINDS,
};

struct stress {
    struct fixture fixture;        /* first: what the hooks get */
    atomic_uint serial;            /* for random numbers */
    atomic_bool stopping;          /* answers may stay out from now on */
    atomic_bool over;              /* nobody answers any more */
    atomic_uint pushed;            /* messages from outside that peers got */
    atomic_uint clean;             /* visits that were answered in full */
    struct tws_deflate_pool *pool; /* NULL: nothing is compressed */
};

static const struct tws_compression_terms terms = {
    .out = {.window_bits = 10, .mem_level = 3, .level = 1},
    .in_window_bits = 10,
    .out_takeover = true,
    .in_takeover = true,
    .threshold = 100,
};

/* What the server knows of a client. */
struct guest {
    struct visitor visitor; /* first: what the fixture's handlers get */
    unsigned next;          /* number of the message that comes next */
    atomic_bool doomed;
};

/* ---- chance ------------------------------------------------------------- */

/* A number below `limit`; `state` is any, and moves on. */
static unsigned
chance(uint64_t *state, unsigned limit)
{
    *state = *state * 6364136223846793005U + 1442695040888963407U;
    return (unsigned)(*state >> 33) % limit;
}

/* The same for handlers, which have no state of their own. */
static unsigned
any(struct fixture *fixture, unsigned limit)
{
    struct stress *stress = (struct stress *)fixture;
    uint64_t state = (uint64_t)stress->serial++ * 0x9E3779B97F4A7C15U;
    (void)chance(&state, 2);
    return chance(&state, limit);
}

/* ---- the server's side -------------------------------------------------- */

static void
admit(struct fixture *fixture, struct tws_handshake *handshake,
      const struct tws_http_head *head,
      const struct tws_handshake_request *request)
{
    struct tws_error err;
    struct tws_deflate_pool *pool = ((struct stress *)fixture)->pool;
    struct guest *guest = calloc(1, sizeof(*guest));
    struct tws_agreed agreed = {.extensions = TWS_SPAN("")};
    (void)head;
    must(guest != NULL, "calloc");
    if (pool != NULL) {
        agreed.rsv = TWS_RSV1;
        agreed.compression = tws_compression_new(&terms, pool);
        must(agreed.compression != NULL, "tws_compression_new");
    }
    guest->visitor.fixture = fixture;
    if (any(fixture, 16) == 0) {
        fixture_pause(fixture, any(fixture, 12) * MILLISECOND);
    }
    CHECK_INT(tws_handshake_accept(handshake, request, &agreed, NULL, 0,
                                   &guest->visitor, &err),
              TWS_OK);
    fixture->accepted++;
}

/* In a form that would do for others as well. */
static enum tws_status
push_shared(struct tws_client *client, struct tws_span payload, void *receipt)
{
    struct tws_buffer frame = TWS_BUFFER_EMPTY;
    struct tws_error err;
    CHECK_INT(
        tws_client_pack_shared(client, TWS_OPCODE_TEXT, payload, &frame, &err),
        TWS_OK);
    struct tws_span bytes = {.data = (const char *)tws_buffer_data(&frame),
                             .length = tws_buffer_length(&frame)};
    enum tws_status status =
        tws_client_send_shared(client, bytes, payload.length, receipt, &err);
    tws_buffer_release(&frame);
    return status;
}

/* From outside, and from handlers of others: "B", a length, and as much of
 * the pattern. */
static void
push(struct fixture *fixture, struct tws_client *client, uint64_t *state)
{
    struct tws_error err;
    char text[1 + KEY_LENGTH + SMALL + 1];
    unsigned length = chance(state, SMALL);
    size_t fragment = chance(state, 4) == 0 ? 100 : 0;
    void *receipt = chance(state, 3) == 0 ? fixture : NULL;
    if (client->congested) {
        return;
    }
    snprintf(text, sizeof(text), "B%06u:%.*s", length, (int)length, pattern);
    struct tws_span payload = {.data = text,
                               .length = 1 + KEY_LENGTH + length};
    if (receipt != NULL) {
        fixture->receipts++;
    }
    enum tws_status status =
        client->compression != NULL && chance(state, 3) == 0
            ? push_shared(client, payload, receipt)
            : tws_client_send(client, TWS_OPCODE_TEXT, payload, fragment,
                              receipt, &err);
    if (status != TWS_OK && receipt != NULL) {
        fixture->receipts--;
    }
}

/* Some of those that are there. */
struct few {
    struct tws_client *clients[FEW];
    bool doomed[FEW];
    size_t count;
    unsigned skip;
};

static void
collect(void *context, struct tws_client *client)
{
    struct few *few = context;
    if (few->skip > 0) {
        few->skip--;
        return;
    }
    if (few->count < FEW) {
        const struct guest *guest = client->user;
        tws_client_retain(client);
        few->doomed[few->count] = guest->doomed;
        few->clients[few->count] = client;
        few->count++;
    }
}

static void
push_to_another(struct fixture *fixture, uint64_t *state)
{
    struct few few = {.skip = chance(state, PEERS)};
    tws_server_each(fixture->server, collect, &few);
    for (size_t i = 0; i < few.count; i++) {
        if (i == 0) {
            push(fixture, few.clients[i], state);
        }
        tws_client_release(few.clients[i]);
    }
}

static void
answer(struct tws_client *client, const struct tws_event *event)
{
    struct guest *guest = client->user;
    char number[KEY_LENGTH] = {0};
    CHECK(event->length >= KEY_LENGTH);
    if (event->length >= KEY_LENGTH) {
        memcpy(number, event->data, KEY_LENGTH - 1);
    }
    CHECK_INT(strtoul(number, NULL, 10), guest->next);
    guest->next++;
    (void)echo(client, event); /* it may be closed by now */
}

static void
obey(struct fixture *fixture, struct tws_client *client,
     const struct tws_event *event)
{
    struct guest *guest = client->user;
    char command =
        event->length < KEY_LENGTH ? '?' : (char)event->data[KEY_LENGTH - 1];
    uint64_t state = any(fixture, 1U << 30);
    struct tws_event next;
    answer(client, event);
    switch (command) {
    case 's': /* sleeps; sometimes it says so before */
        if (chance(&state, 2) == 0) {
            (void)tws_server_before_wait(fixture->server);
        }
        fixture_pause(fixture, chance(&state, 12) * MILLISECOND);
        break;
    case 'p': /* pushes to somebody else */
        push_to_another(fixture, &state);
        break;
    case 'r': /* reads on by itself */
        if (fixture_next(fixture, client, &next) == TWS_OK
            && next.type <= TWS_EVENT_BINARY) {
            answer(client, &next);
        }
        break;
    case 'c':
        (void)begin_close(client, 1000, "as you wish");
        break;
    case 'x':
        break_off(client);
        break;
    case 'k':
        guest->doomed = true;
        break;
    default:
        CHECK_INT(command, 'e');
        break;
    }
}

static void
greet(struct fixture *fixture, struct tws_client *client)
{
    uint64_t state = any(fixture, 1U << 30);
    if (chance(&state, 4) == 0) {
        push(fixture, client, &state);
    }
    if (chance(&state, 16) == 0) {
        fixture_pause(fixture, chance(&state, 12) * MILLISECOND);
    }
}

static void
part(struct fixture *fixture, struct tws_client *client,
     const struct tws_ending *ending)
{
    (void)client;
    CHECK(ending->reason_length > 0 || ending->code != TWS_CLOSE_ABNORMAL);
    if (any(fixture, 8) == 0) {
        fixture_pause(fixture, any(fixture, 12) * MILLISECOND);
    }
}

static void
never_wake(struct tws_waiter *waiter)
{
    (void)waiter;
}

/* A thread from outside. */
static void *
send_to_all(void *argument)
{
    struct stress *stress = argument;
    struct fixture *fixture = &stress->fixture;
    uint64_t state = any(fixture, 1U << 30);
    while (!stress->over) {
        struct few few = {.skip = chance(&state, 3)};
        struct tws_stats stats;
        tws_server_each(fixture->server, collect, &few);
        for (size_t i = 0; i < few.count; i++) {
            struct tws_client *client = few.clients[i];
            struct tws_waiter waiter = {.wake = never_wake};
            CHECK(tws_client_queued(client) < NO_ROOM);
            push(fixture, client, &state);
            (void)tws_client_await(client, TWS_AWAIT_ROOM, &waiter);
            tws_client_forget(client, &waiter);
            if (few.doomed[i] && chance(&state, 2) == 0) {
                (void)begin_close(client, 1000, "from outside");
            }
            else if (few.doomed[i]) {
                break_off(client);
            }
            tws_client_release(client);
        }
        tws_server_stats(fixture->server, &stats);
        CHECK(stats.threads <= POOL_THREADS);
        pause_for(chance(&state, 2000) * MILLISECOND / 1000);
    }
    return NULL;
}

/* ---- the peers' side ---------------------------------------------------- */

struct peer {
    struct stress *stress;
    uint64_t state; /* of chance() */
    int fd;
    struct tws_buffer out;
    struct tws_buffer in;
    unsigned asked;
    unsigned answered;
    size_t lengths[BURST_MAX + 1]; /* of what was asked */
    char commands[BURST_MAX + 1];
    struct tws_buffer fragments; /* of a message that is not whole yet */
    bool compressed;             /* it is */
    struct tws_deflater *deflater;
    struct tws_inflater *inflater;
    bool half;   /* our side has ended */
    bool closed; /* a Close frame has come */
    bool ended;  /* nothing comes any more */
};

static void
append_out(struct peer *peer, const void *data, size_t length)
{
    must(tws_buffer_append(&peer->out, data, length) == TWS_OK, "malloc");
}

static void
write_out(struct peer *peer, unsigned first, const void *payload,
          size_t length)
{
    uint8_t *room;
    must(tws_buffer_reserve(&peer->out, length + WIRE_HEADER_MAX, &room)
             == TWS_OK,
         "malloc");
    tws_buffer_commit(&peer->out, write_frame(room, first, payload, length));
}

static void
ask(struct peer *peer, char command, size_t length)
{
    char text[KEY_LENGTH + LARGE + 1];
    snprintf(text, sizeof(text), "%06u%c%.*s", peer->asked, command,
             (int)length, pattern);
    if (peer->deflater != NULL && chance(&peer->state, 4) != 0) {
        struct tws_buffer packed = TWS_BUFFER_EMPTY;
        struct tws_span payload = {.data = text,
                                   .length = KEY_LENGTH + length};
        struct tws_error err;
        must(tws_deflater_add(peer->deflater, payload, true, &packed, &err)
                 == TWS_OK,
             "deflate");
        write_out(peer, TEXT | TWS_RSV1, tws_buffer_data(&packed),
                  tws_buffer_length(&packed));
        tws_buffer_release(&packed);
    }
    else {
        write_out(peer, TEXT, text, KEY_LENGTH + length);
    }
    peer->commands[peer->asked] = command;
    peer->lengths[peer->asked] = KEY_LENGTH + length;
    peer->asked++;
}

static void
take_message(struct peer *peer, const char *text, size_t length)
{
    char number[KEY_LENGTH] = {0};
    CHECK(length >= KEY_LENGTH);
    if (length < KEY_LENGTH) {
        return;
    }
    if (text[0] == 'B') {
        CHECK_INT(strtoul(text + 1, NULL, 10) + 1 + KEY_LENGTH, length);
        CHECK(
            length > KEY_LENGTH
            && memcmp(text + 1 + KEY_LENGTH, pattern, length - 1 - KEY_LENGTH)
                   == 0);
        peer->stress->pushed++;
        return;
    }
    memcpy(number, text, KEY_LENGTH - 1);
    CHECK_INT(strtoul(number, NULL, 10), peer->answered);
    CHECK(peer->answered < peer->asked);
    if (peer->answered < peer->asked) {
        CHECK_INT(length, peer->lengths[peer->answered]);
        CHECK_INT(text[KEY_LENGTH - 1], peer->commands[peer->answered]);
    }
    CHECK(memcmp(text + KEY_LENGTH, pattern, length - KEY_LENGTH) == 0);
    peer->answered++;
}

static void
take_compressed(struct peer *peer)
{
    static const size_t most = KEY_LENGTH + LARGE + 2;
    char *text = malloc(most);
    must(text != NULL, "malloc");
    struct tws_input input = {.data = tws_buffer_data(&peer->fragments),
                              .length = tws_buffer_length(&peer->fragments)};
    struct tws_error err;
    size_t length;
    size_t more;
    bool good = tws_inflater_read(peer->inflater, &input, (uint8_t *)text,
                                  most, &length, &err)
                    == TWS_OK
                && tws_inflater_end(peer->inflater, (uint8_t *)text + length,
                                    most - length, &more, &err)
                       == TWS_OK;
    CHECK(good);
    if (good) {
        take_message(peer, text, length + more);
    }
    free(text);
}

static void
take_wire_frame(struct peer *peer, uint8_t first, const uint8_t *data,
                size_t length)
{
    struct tws_buffer *fragments = &peer->fragments;
    CHECK(!peer->closed); /* nothing follows a Close (RFC 6455 5.5.1) */
    switch (first & 0xf) {
    case TWS_OPCODE_TEXT:
    case TWS_OPCODE_CONTINUATION:
        /* Messages do not mix. */
        CHECK(((first & 0xf) == TWS_OPCODE_TEXT)
              == (tws_buffer_length(fragments) == 0));
        if (tws_buffer_length(fragments) == 0) {
            peer->compressed = (first & TWS_RSV1) != 0;
        }
        must(tws_buffer_append(fragments, data, length) == TWS_OK, "malloc");
        if ((first & TWS_FIN) != 0 && peer->compressed) {
            take_compressed(peer);
            tws_buffer_release(fragments);
        }
        else if ((first & TWS_FIN) != 0) {
            take_message(peer, (const char *)tws_buffer_data(fragments),
                         tws_buffer_length(fragments));
            tws_buffer_release(fragments);
        }
        break;
    case TWS_OPCODE_PING:
        if (!peer->half) {
            write_out(peer, PONG, data, length);
        }
        break;
    case TWS_OPCODE_CLOSE:
        peer->closed = true;
        if (!peer->half) {
            write_out(peer, CLOSE, data, length < 2 ? 0 : 2);
        }
        break;
    default:
        CHECK_INT(first, PONG);
        break;
    }
}

/* The frames that are whole in `in`. */
static void
take_frames(struct peer *peer)
{
    for (;;) {
        const uint8_t *data = tws_buffer_data(&peer->in);
        size_t have = tws_buffer_length(&peer->in);
        size_t header = 2;
        size_t length = have < 2 ? 0 : data[1];
        if (length == 126) {
            header = 4;
            length = have < 4 ? 0 : tws_load_be16(data + 2);
        }
        if (have < header || have - header < length) {
            return;
        }
        CHECK(length < 65536);
        take_wire_frame(peer, data[0], data + header, length);
        tws_buffer_consume(&peer->in, header + length);
    }
}

/* Waits a moment for something to move, and moves it; false where nothing
 * will any more. */
static bool
pump(struct peer *peer)
{
    size_t left = tws_buffer_length(&peer->out);
    struct pollfd entry = {.fd = peer->fd, .events = POLLIN};
    if (left > 0) {
        entry.events |= POLLOUT;
    }
    if (poll(&entry, 1, 20) == 0) {
        peer->ended = peer->ended || peer->stress->over;
        return !peer->ended;
    }
    if ((entry.revents & POLLOUT) != 0 && left > 0) {
        size_t some = 1 + chance(&peer->state, 30000);
        ssize_t n =
            send(peer->fd, tws_buffer_data(&peer->out),
                 some < left ? some : left, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n > 0) {
            tws_buffer_consume(&peer->out, (size_t)n);
        }
        else if (n < 0 && errno != EAGAIN) {
            tws_buffer_release(&peer->out); /* what has come is still read */
        }
    }
    if ((entry.revents & (POLLIN | POLLHUP | POLLERR)) != 0) {
        uint8_t bytes[8192];
        ssize_t n = recv(peer->fd, bytes, sizeof(bytes), MSG_DONTWAIT);
        if (n > 0) {
            must(tws_buffer_append(&peer->in, bytes, (size_t)n) == TWS_OK,
                 "malloc");
        }
        else if (n == 0 || errno != EAGAIN) {
            peer->ended = true;
        }
    }
    return !peer->ended;
}

/* Until everything is answered, or the server has closed. */
static void
await_answers(struct peer *peer)
{
    uint64_t end = tws_clock_now() + PATIENCE_SECONDS * SECOND;
    while (peer->answered < peer->asked && !peer->closed && pump(peer)) {
        take_frames(peer);
        if (tws_clock_now() > end) {
            fprintf(stderr, "%u of %u messages were answered\n",
                    peer->answered, peer->asked);
            CHECK(peer->answered == peer->asked);
            return;
        }
    }
}

static void
await_end(struct peer *peer)
{
    uint64_t end = tws_clock_now() + PATIENCE_SECONDS * SECOND;
    while (pump(peer)) {
        take_frames(peer);
        if (tws_clock_now() > end) {
            CHECK(peer->ended);
            return;
        }
    }
    take_frames(peer);
}

/* What answers the request; false where the server is not there any more. */
static bool
await_101(struct peer *peer)
{
    static const char end[] = "\r\n\r\n";
    const char *found = NULL;
    while (found == NULL && pump(peer)) {
        size_t length = tws_buffer_length(&peer->in);
        if (length > 0) {
            found = memmem(tws_buffer_data(&peer->in), length, end,
                           sizeof(end) - 1);
        }
    }
    if (found == NULL) {
        CHECK(peer->stress->stopping);
        return false;
    }
    const char *head = (const char *)tws_buffer_data(&peer->in);
    CHECK(strncmp(head, "HTTP/1.1 101 ", 13) == 0);
    tws_buffer_consume(&peer->in, (size_t)(found + 4 - head));
    return true;
}

static void
ask_burst(struct peer *peer, enum kind_of_peer kind)
{
    static const char commands[] = "eeeeeeeeespr";
    unsigned count = 1 + chance(&peer->state, BURST_MAX);
    for (unsigned i = 0; i < count; i++) {
        bool large = chance(&peer->state, kind == SLOW ? 2 : 16) == 0;
        char command = commands[chance(&peer->state, sizeof(commands) - 1)];
        ask(peer, kind == SLOW ? 'e' : command,
            chance(&peer->state, large ? LARGE : SMALL));
        if (chance(&peer->state, 8) == 0) {
            write_out(peer, PING, "hm?", 3);
        }
    }
    /* What reads on finds something: never is such a message the last. */
    ask(peer,
        kind == DISMISSED ? 'c'
        : kind == DOOMED  ? 'k'
        : kind == THROWN  ? 'x'
                          : 'e',
        chance(&peer->state, SMALL));
}

/* Leaves without a word, and perhaps with a reset. */
static void
vanish(struct peer *peer)
{
    unsigned turns = chance(&peer->state, 6);
    while (turns > 0 && pump(peer)) {
        take_frames(peer);
        turns--;
    }
}

static void
behave(struct peer *peer, enum kind_of_peer kind)
{
    bool full = false; /* must everything be answered? */
    switch (kind) {
    case POLITE:
    case SLOW:
        if (kind == SLOW) {
            pause_for(chance(&peer->state, 30) * MILLISECOND);
        }
        await_answers(peer);
        if (!peer->closed) {
            write_out(peer, CLOSE, "\x03\xe8", 2);
            peer->half = true; /* we have had our word */
        }
        await_end(peer);
        CHECK(peer->closed || peer->stress->stopping);
        full = true;
        break;
    case DISMISSED:
        await_end(peer);
        CHECK(peer->closed || peer->stress->stopping);
        full = true;
        break;
    case RUDE:
        append_out(peer, "\x81\x01x", 3);
        await_end(peer);
        CHECK(peer->closed || peer->stress->stopping);
        full = true;
        break;
    case DOOMED:
    case THROWN:
        await_end(peer);
        break;
    case HALF:
        while (tws_buffer_length(&peer->out) > 0 && pump(peer)) {
            take_frames(peer);
        }
        peer->half = true;
        (void)shutdown(peer->fd, SHUT_WR);
        tws_buffer_release(&peer->out);
        await_end(peer);
        break;
    case TORN:
        append_out(peer, "\x81\xfe\x7f\xff_key_half", 12);
        vanish(peer);
        break;
    case VANISHING:
    case NEVER:
    case KINDS:
        vanish(peer);
        break;
    }
    if (full) {
        CHECK(peer->answered == peer->asked || peer->stress->stopping);
        peer->stress->clean += peer->answered == peer->asked;
    }
}

static void
visit(struct peer *peer)
{
    enum kind_of_peer kind = chance(&peer->state, KINDS);
    peer->fd = dial_small(&peer->stress->fixture, kind == SLOW ? 16384 : 0);
    if (kind == NEVER) {
        size_t some = chance(&peer->state, sizeof(UPGRADE_REQUEST) - 1);
        (void)offer(peer->fd, UPGRADE_REQUEST, some);
        vanish(peer);
    }
    else {
        bool eager = chance(&peer->state, 4) == 0; /* does not wait for 101 */
        append_out(peer, UPGRADE_REQUEST, sizeof(UPGRADE_REQUEST) - 1);
        if (eager) {
            ask_burst(peer, kind);
        }
        if (await_101(peer)) {
            if (!eager) {
                ask_burst(peer, kind);
            }
            behave(peer, kind);
        }
    }
    if (chance(&peer->state, 2) == 0 && kind != POLITE) {
        reset_fd(peer->fd);
    }
    else {
        CHECK_INT(close(peer->fd), 0);
    }
    tws_buffer_release(&peer->in);
    tws_buffer_release(&peer->out);
    tws_buffer_release(&peer->fragments);
}

static void *
visit_again_and_again(void *argument)
{
    struct stress *stress = argument;
    uint64_t state = any(&stress->fixture, 1U << 30);
    while (!stress->stopping) {
        struct peer peer = {.stress = stress, .state = state};
        if (stress->pool != NULL) {
            peer.deflater = tws_deflater_new(&terms.out);
            peer.inflater = tws_inflater_new(terms.out.window_bits);
            must(peer.deflater != NULL && peer.inflater != NULL, "zlib");
        }
        visit(&peer);
        tws_deflater_free(peer.deflater);
        tws_inflater_free(peer.inflater);
        state = peer.state;
    }
    return NULL;
}

/* ---- rounds ------------------------------------------------------------- */

static void
start_round(struct stress *stress, struct way way, unsigned number)
{
    struct fixture *fixture = &stress->fixture;
    *stress = (struct stress){.serial = number * 1000003};
    if (number >= ROUNDS / 2) {
        stress->pool = tws_deflate_pool_new();
        must(stress->pool != NULL, "tws_deflate_pool_new");
    }
    fixture_init_pool(fixture, way);
    fixture->send_room = SEND_ROOM;
    fixture->options.high_water = HIGH_WATER;
    fixture->options.low_water = HIGH_WATER / 4;
    fixture->options.close_timeout = 2 * SECOND;
    fixture->options.ping_interval = 20 * MILLISECOND;
    fixture->options.ping_timeout = PATIENCE_SECONDS * SECOND;
    fixture->options.max_half_open = 8 * PEERS;
    fixture->on_request = admit;
    fixture->on_open = greet;
    fixture->on_message = obey;
    fixture->on_close = part;
    fixture_make(fixture);
    if (number % 2 == 1) {
        fixture_encrypt(fixture);
    }
    fixture_run(fixture);
}

EACH_WAY(whatever_happens_nothing_is_lost_doubled_or_out_of_order)
{
    static const uint64_t patience[] = {PATIENCE_SECONDS * SECOND, 0,
                                        50 * MILLISECOND};
    static struct stress stress;
    prepare_tls();
    for (unsigned round = 0; round < ROUNDS && harness_failures == 0;
         round++) {
        pthread_t peers[PEERS];
        pthread_t senders[SENDERS];
        start_round(&stress, way, round);
        for (int i = 0; i < PEERS; i++) {
            must(
                pthread_create(&peers[i], NULL, visit_again_and_again, &stress)
                    == 0,
                "pthread_create");
        }
        for (int i = 0; i < SENDERS; i++) {
            must(pthread_create(&senders[i], NULL, send_to_all, &stress) == 0,
                 "pthread_create");
        }
        pause_for(ROUND_MS * MILLISECOND);
        EVENTUALLY(stress.clean > 0 && stress.pushed > 0);
        stress.stopping = true;
        tws_server_stop(stress.fixture.server, TWS_CLOSE_GOING_AWAY,
                        TWS_SPAN("enough"),
                        patience[round % TWS_ARRAY_SIZE(patience)]);
        fixture_join(&stress.fixture);
        stress.over = true;
        for (int i = 0; i < PEERS; i++) {
            CHECK_INT(pthread_join(peers[i], NULL), 0);
        }
        for (int i = 0; i < SENDERS; i++) {
            CHECK_INT(pthread_join(senders[i], NULL), 0);
        }
        await_crypts();
        fixture_end(&stress.fixture);
        tws_deflate_pool_release(stress.pool);
    }
}

RUN(T(whatever_happens_nothing_is_lost_doubled_or_out_of_order))
