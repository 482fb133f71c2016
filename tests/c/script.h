/* A script is a stream of frames together with the events that it must give
 * and the way it must end. Playing it cuts the stream anywhere, and whatever
 * the cut, events and end must be the same. */
#ifndef TWS_TESTS_SCRIPT_H
#define TWS_TESTS_SCRIPT_H

#include "protocol/message_stream.h"

#include "guard.h"
#include "harness.h"

/* First bytes of frames. */
enum {
    MORE = 0x00,
    END = TWS_FIN,
    TEXT = TWS_OPCODE_TEXT,
    BINARY = TWS_OPCODE_BINARY,
    PING = TWS_FIN | TWS_OPCODE_PING,
    PONG = TWS_FIN | TWS_OPCODE_PONG,
    CLOSE = TWS_FIN | TWS_OPCODE_CLOSE,
};

struct script_event {
    enum tws_event_type type;
    size_t at; /* in the script's payloads */
    size_t length;
    bool ascii;
    uint16_t code;
};

struct script {
    enum tws_role role; /* of the end that reads */
    struct tws_message_limits limits;
    struct tws_buffer wire;
    struct tws_buffer payloads;
    struct script_event events[64];
    size_t count;
    uint16_t close_code; /* of the error it ends with, 0 for none */
    size_t shown;        /* bytes of the wire that show the error */
    uint64_t random;     /* for masking keys */
    uint8_t key[4];      /* of the frame being written */
    uint64_t offset;     /* in its payload */

    /* Of compressed_script.h. */
    struct tws_compression_terms terms; /* of the end that reads */
    bool compression;                   /* was agreed */
    bool loose;                         /* the error shows wherever it does */
    struct tws_deflater *deflater;      /* of the end that writes */
};

enum script_cut_mode { CUT_STEP, CUT_ONCE, CUT_TWICE, CUT_RANDOM };

struct script_cut {
    enum script_cut_mode mode;
    size_t n;      /* bytes a step, or where to cut */
    size_t second; /* where to cut again */
    uint64_t seed;
    bool guarded; /* pieces end at a guard page */
    bool direct;  /* reads straight into large messages now and then */
    bool chunked; /* every message comes in chunks */
    bool mixed;   /* some do, from somewhere on, and not all to their end */
};

static inline uint64_t
script_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state >> 16;
}

static inline void
script_must(bool condition)
{
    if (!condition) {
        abort();
    }
}

static inline void
script_init(struct script *script, enum tws_role role)
{
    memset(script, 0, sizeof(*script));
    script->role = role;
    script->limits = TWS_MESSAGE_LIMITS_DEFAULT;
    script->random = UINT64_C(0x9e3779b97f4a7c15);
}

static inline void
script_free(struct script *script)
{
    tws_buffer_release(&script->wire);
    tws_buffer_release(&script->payloads);
    tws_deflater_free(script->deflater);
}

/* `first` is the first byte of the frame. */
static inline void
script_header(struct script *script, unsigned first, uint64_t length)
{
    struct tws_frame_header header = {
        .length = length,
        .opcode = first & 0x0f,
        .rsv = first & TWS_RSV,
        .fin = (first & TWS_FIN) != 0,
        .masked = script->role == TWS_SERVER,
    };
    uint8_t out[TWS_FRAME_HEADER_MAX];
    for (size_t i = 0; header.masked && i < sizeof(header.key); i++) {
        header.key[i] = (uint8_t)script_random(&script->random);
    }
    memcpy(script->key, header.key, sizeof(script->key));
    script->offset = 0;
    size_t size = tws_frame_header_encode(&header, out);
    script_must(tws_buffer_append(&script->wire, out, size) == TWS_OK);
}

/* The next part of the frame's payload. */
static inline void
script_payload(struct script *script, const void *data, size_t length)
{
    uint8_t *room;
    script_must(tws_buffer_reserve(&script->wire, length, &room) == TWS_OK);
    for (size_t i = 0; i < length; i++) {
        uint8_t key = script->key[script->offset++ % 4];
        room[i] = ((const uint8_t *)data)[i]
                  ^ (script->role == TWS_SERVER ? key : 0);
    }
    tws_buffer_commit(&script->wire, length);
}

static inline void
script_frame(struct script *script, unsigned first, const void *data,
             size_t length)
{
    script_header(script, first, length);
    script_payload(script, data, length);
}

static inline void
script_expect(struct script *script, enum tws_event_type type,
              const void *data, size_t length)
{
    const uint8_t *bytes = data;
    struct script_event event = {
        .type = type,
        .at = tws_buffer_length(&script->payloads),
        .length = length,
        .ascii = type == TWS_EVENT_TEXT,
    };
    for (size_t i = 0; i < length; i++) {
        event.ascii = event.ascii && bytes[i] < 0x80;
    }
    if (type == TWS_EVENT_CLOSE) {
        event.code =
            length == 0 ? 1005 : (uint16_t)(bytes[0] * 256 + bytes[1]);
    }
    script_must(script->count < TWS_ARRAY_SIZE(script->events));
    script->events[script->count++] = event;
    script_must(tws_buffer_append(&script->payloads, data, length) == TWS_OK);
}

/* A message or control frame in one frame. */
static inline void
script_whole(struct script *script, enum tws_opcode opcode, const void *data,
             size_t length)
{
    enum tws_event_type type = opcode == TWS_OPCODE_TEXT     ? TWS_EVENT_TEXT
                               : opcode == TWS_OPCODE_BINARY ? TWS_EVENT_BINARY
                               : opcode == TWS_OPCODE_CLOSE  ? TWS_EVENT_CLOSE
                               : opcode == TWS_OPCODE_PING   ? TWS_EVENT_PING
                                                             : TWS_EVENT_PONG;
    script_frame(script, TWS_FIN | opcode, data, length);
    script_expect(script, type, data, length);
}

/* What is written so far, and not a byte less, breaks a rule. */
static inline void
script_breaks(struct script *script, uint16_t close_code)
{
    script->close_code = close_code;
    script->shown = tws_buffer_length(&script->wire);
}

static inline void
script_say(struct script *script, unsigned first, const char *payload)
{
    script_frame(script, first, payload, strlen(payload));
}

static inline void
script_hear(struct script *script, enum tws_event_type type,
            const char *payload)
{
    script_expect(script, type, payload, strlen(payload));
}

/* `length` bytes of valid text with characters of every size, or of ASCII.
 * The caller frees them. */
static inline char *
script_new_text(size_t length, bool ascii)
{
    static const char characters[] = "a\xc3\xb1\xe2\x82\xac\xf0\x9d\x84\x9e";
    size_t step = ascii ? 1 : sizeof(characters) - 1;
    char *text = calloc(1, length + step); /* gcc does not see it filled */
    script_must(text != NULL);
    for (size_t i = 0; i < length; i += step) {
        memcpy(text + i, characters, step);
    }
    for (size_t i = length / step * step; i < length; i++) {
        text[i] = 'z';
    }
    return text;
}

static inline void
script_add_whole(struct script *script, enum tws_opcode opcode, size_t length,
                 bool ascii)
{
    char *text = script_new_text(length, ascii);
    if (opcode != TWS_OPCODE_TEXT && length > 1) {
        text[length / 2] = '\xff';
    }
    script_whole(script, opcode, text, length);
    free(text);
}

/* A message in frames of `chunk` bytes; `ping` stands between them. */
static inline void
script_add_fragmented(struct script *script, enum tws_opcode opcode,
                      size_t length, size_t chunk, bool ascii,
                      const char *ping)
{
    char *text = script_new_text(length, ascii);
    size_t at = 0;
    unsigned first = opcode;
    do {
        size_t size = length - at < chunk ? length - at : chunk;
        bool fin = at + size == length;
        script_frame(script, first | (fin ? END : MORE), text + at, size);
        at += size;
        first = TWS_OPCODE_CONTINUATION;
        if (ping != NULL && !fin) {
            script_whole(script, TWS_OPCODE_PING, ping, strlen(ping));
        }
    } while (at < length);
    script_expect(
        script, opcode == TWS_OPCODE_TEXT ? TWS_EVENT_TEXT : TWS_EVENT_BINARY,
        text, length);
    free(text);
}

/* Every kind of frame, small enough to be cut at every place. */
static inline void
script_add_small_stream(struct script *s)
{
    script_add_whole(s, TWS_OPCODE_TEXT, 5, true);
    script_add_whole(s, TWS_OPCODE_TEXT, 33, false);
    script_add_whole(s, TWS_OPCODE_TEXT, 0, true);
    script_add_whole(s, TWS_OPCODE_BINARY, 0, true);
    script_add_whole(s, TWS_OPCODE_BINARY, 17, true);
    script_add_whole(s, TWS_OPCODE_PING, 0, true);
    script_add_whole(s, TWS_OPCODE_PONG, 0, true);
    script_add_whole(s, TWS_OPCODE_PING, 125, true);
    script_add_whole(s, TWS_OPCODE_PONG, 125, true);
    script_add_whole(s, TWS_OPCODE_TEXT, 125, false);
    script_add_whole(s, TWS_OPCODE_BINARY, 126, true);
    script_add_whole(s, TWS_OPCODE_TEXT, 126, true);
    script_add_fragmented(s, TWS_OPCODE_TEXT, 40, 1, false, NULL);
    script_add_fragmented(s, TWS_OPCODE_TEXT, 23, 3, false, "\xff\xfe");
    script_add_fragmented(s, TWS_OPCODE_TEXT, 9, 4, true, "");
    script_add_fragmented(s, TWS_OPCODE_BINARY, 31, 7, false, "ping");
    /* Empty fragments at the start, inside a character and at the end. */
    script_say(s, TEXT | MORE, "");
    script_say(s, MORE, "\xe2\x82");
    script_say(s, MORE, "");
    script_whole(s, TWS_OPCODE_PONG, "\x80", 1);
    script_say(s, MORE, "\xac");
    script_say(s, END, "");
    script_hear(s, TWS_EVENT_TEXT, "\xe2\x82\xac");
    script_say(s, BINARY | MORE, "");
    script_say(s, END, "");
    script_hear(s, TWS_EVENT_BINARY, "");
    script_say(s, TEXT | MORE, "");
    script_say(s, MORE, "");
    script_say(s, END, "");
    script_hear(s, TWS_EVENT_TEXT, "");
    script_add_whole(s, TWS_OPCODE_TEXT, 12, true);
    script_say(s, TEXT | MORE, "abandoned");
    script_whole(s, TWS_OPCODE_CLOSE,
                 "\x03\xe8"
                 "caf\xc3\xa9",
                 7);
}

static inline void
script_add_large_stream(struct script *s)
{
    script_add_whole(s, TWS_OPCODE_BINARY, 65535, true);
    script_add_whole(s, TWS_OPCODE_TEXT, 65536, true);
    script_add_whole(s, TWS_OPCODE_PING, 125, true);
    script_add_whole(s, TWS_OPCODE_TEXT, 65535, false);
    script_add_fragmented(s, TWS_OPCODE_TEXT, 70001, 33333, false, "between");
    script_add_fragmented(s, TWS_OPCODE_BINARY, 60000, 20000, true, NULL);
    script_add_whole(s, TWS_OPCODE_BINARY, 65536, true);
    script_add_whole(s, TWS_OPCODE_TEXT, 1, true);
    script_add_whole(s, TWS_OPCODE_TEXT, 200000, false);
    script_add_fragmented(s, TWS_OPCODE_TEXT, 100000, 50000, true, "");
    script_whole(s, TWS_OPCODE_CLOSE, "\x0f\xa0", 2);
}

struct script_run {
    const struct script *script;
    struct tws_frame_reader reader;
    struct tws_assembler assembler;
    struct tws_error err;
    size_t seen; /* events */
    size_t at;   /* bytes of the wire that were given */
    const char *problem;
    struct script_cut cut;
    uint64_t random;
    struct tws_buffer chunks; /* of the message that comes in chunks */
    bool discarded;           /* an expected message will not come */
    struct tws_compression *compression;
};

static inline void
script_agree(struct script_run *run)
{
    if (!run->script->compression) {
        return;
    }
    struct tws_deflate_pool *pool = tws_deflate_pool_new();
    script_must(pool != NULL);
    run->compression = tws_compression_new(&run->script->terms, pool);
    script_must(run->compression != NULL);
    tws_deflate_pool_release(pool);
    run->assembler.compression = run->compression;
    run->reader.rsv_allowed = TWS_RSV1;
}

static inline bool
script_inside(const uint8_t *data, size_t length, const uint8_t *memory,
              size_t size)
{
    return memory != NULL && data >= memory && length <= size
           && (size_t)(data - memory) <= size - length;
}

static inline bool
script_is_message(enum tws_event_type type)
{
    return type == TWS_EVENT_TEXT || type == TWS_EVENT_BINARY;
}

/* The message that was discarded does not count. */
static inline void
script_pass_discarded(struct script_run *run)
{
    const struct script *script = run->script;
    if (run->discarded && run->seen < script->count
        && script_is_message(script->events[run->seen].type)) {
        run->discarded = false;
        run->seen++;
    }
}

static inline bool
script_chance(struct script_run *run)
{
    return run->cut.mixed && script_random(&run->random) % 4 == 0;
}

static inline void
script_begin_stream(struct script_run *run)
{
    if (tws_message_stream_begin(&run->assembler, UINT64_MAX, &run->err)
        != TWS_OK) {
        run->problem = "a stream does not begin";
    }
}

/* All chunks of a message have come. */
static inline void
script_check_chunks(struct script_run *run, bool text)
{
    const struct script *script = run->script;
    const uint8_t *payload = tws_buffer_data(&script->payloads);
    size_t length = tws_buffer_length(&run->chunks);
    script_pass_discarded(run);
    if (run->seen == script->count) {
        run->problem = "a message too many";
        return;
    }
    const struct script_event *want = &script->events[run->seen++];
    if (want->type != (text ? TWS_EVENT_TEXT : TWS_EVENT_BINARY)) {
        run->problem = "the type of a message in chunks";
    }
    else if (length != want->length
             || (length > 0
                 && memcmp(tws_buffer_data(&run->chunks), payload + want->at,
                           length)
                        != 0)) {
        run->problem = "the bytes of a message in chunks";
    }
    tws_buffer_release(&run->chunks);
}

static inline void
script_take_chunk(struct script_run *run, const struct tws_event *event)
{
    if (event->length > TWS_CHUNK_MAX) {
        run->problem = "the length of a chunk";
    }
    if (event->text != (run->assembler.opcode == TWS_OPCODE_TEXT)
        || (event->text && !tws_utf8_valid(event->data, event->length))) {
        run->problem = "the text of a chunk";
    }
    if (event->ascii && !tws_utf8_is_ascii(event->data, event->length)) {
        run->problem = "the ASCII flag of a chunk";
    }
    if (event->length == 0) {
        script_check_chunks(run, event->text);
        tws_message_stream_end(&run->assembler);
    }
    else {
        script_must(tws_buffer_append(&run->chunks, event->data, event->length)
                    == TWS_OK);
        tws_message_stream_consume(&run->assembler, event->length);
        if (!script_chance(run)) {
            return;
        }
        script_pass_discarded(run);
        tws_message_stream_discard(&run->assembler);
        tws_buffer_release(&run->chunks);
        run->discarded = true;
    }
    if (run->cut.chunked || script_chance(run)) {
        script_begin_stream(run);
    }
}

static inline void
script_check_event(struct script_run *run, const struct tws_event *event,
                   const uint8_t *piece, size_t piece_length)
{
    const struct script *script = run->script;
    if (event->type == TWS_EVENT_CHUNK) {
        script_take_chunk(run, event);
        return;
    }
    script_pass_discarded(run);
    if (run->seen == script->count) {
        run->problem = "an event too many";
        return;
    }
    const struct script_event *want = &script->events[run->seen++];
    const uint8_t *payload = tws_buffer_data(&script->payloads);
    const struct tws_buffer *message = &run->assembler.message;
    const struct tws_buffer *control = &run->assembler.control;
    if (event->type != want->type) {
        run->problem = "the type of an event";
    }
    else if (event->length != want->length
             || (event->length > 0
                 && memcmp(event->data, payload + want->at, event->length)
                        != 0)) {
        run->problem = "the payload of an event";
    }
    else if (event->ascii != want->ascii) {
        run->problem = "the ASCII flag of an event";
    }
    else if (event->code != want->code) {
        run->problem = "the code of a Close";
    }
    else if (event->reason.length
                 != (event->type == TWS_EVENT_CLOSE && event->length > 2
                         ? event->length - 2
                         : 0)
             || (event->reason.length > 0
                 && event->reason.data != (const char *)event->data + 2)) {
        run->problem = "the reason of a Close";
    }
    else if (event->length > 0
             && !script_inside(event->data, event->length, piece, piece_length)
             && !script_inside(event->data, event->length, message->memory,
                               message->end)
             && !script_inside(event->data, event->length, control->memory,
                               control->end)) {
        run->problem = "the memory of an event";
    }
}

/* What the assembler holds when everything was taken. */
static inline void
script_check_memory(struct script_run *run)
{
    const struct tws_assembler *assembler = &run->assembler;
    bool in_control = run->reader.in_payload
                      && tws_opcode_is_control(run->reader.header.opcode);
    if (assembler->opcode == 0 && assembler->message.memory != NULL) {
        run->problem = "memory of a message is kept";
    }
    if (!in_control && assembler->control.memory != NULL) {
        run->problem = "memory of a control frame is kept";
    }
    if (!assembler->waiting && assembler->packed.memory != NULL) {
        run->problem = "memory of what was inflated is kept";
    }
    if (assembler->opcode == 0 && assembler->compression != NULL
        && !run->script->terms.in_takeover
        && assembler->compression->inflater != NULL) {
        run->problem = "an inflater is kept";
    }
}

static inline enum tws_status
script_give(struct script_run *run, uint8_t *data, size_t length)
{
    struct tws_input input = {.data = data, .length = length};
    struct tws_event event;
    enum tws_status status;
    do {
        status = tws_receive(&run->reader, &run->assembler,
                             &run->script->limits, &input, &event, &run->err);
        if (status == TWS_OK) {
            script_check_event(run, &event, data, length);
        }
    } while (status == TWS_OK && run->problem == NULL);
    if (status == TWS_AGAIN) {
        script_check_memory(run);
        if (input.length != 0) {
            run->problem = "input is left over";
        }
    }
    return status;
}

static inline enum tws_status
script_give_direct(struct script_run *run, uint8_t *room, size_t length)
{
    struct tws_event event;
    memcpy(room, tws_buffer_data(&run->script->wire) + run->at, length);
    enum tws_status status =
        tws_receive_direct(&run->reader, &run->assembler, &run->script->limits,
                           room, length, &event, &run->err);
    if (status == TWS_OK) {
        script_check_event(run, &event, NULL, 0);
        status = TWS_AGAIN;
    }
    return status;
}

static inline enum tws_status
script_give_copy(struct script_run *run, size_t length, bool guarded)
{
    const uint8_t *data = tws_buffer_data(&run->script->wire) + run->at;
    if (guarded) {
        struct guard piece = guard_copy(data, length);
        enum tws_status status = script_give(run, piece.data, length);
        guard_free(&piece);
        return status;
    }
    uint8_t *piece = malloc(length);
    script_must(piece != NULL);
    memcpy(piece, data, length);
    enum tws_status status = script_give(run, piece, length);
    free(piece);
    return status;
}

/* Between messages others may take their place, as nothing is known then. */
static inline void
script_replace_at_rest(struct script_run *run)
{
    struct tws_frame_reader reader;
    if (!tws_frame_reader_is_at_rest(&run->reader)
        || !tws_assembler_is_at_rest(&run->assembler)) {
        return;
    }
    tws_frame_reader_init(&reader, (enum tws_role)run->reader.role);
    reader.rsv_allowed = run->reader.rsv_allowed;
    reader.opcodes_allowed = run->reader.opcodes_allowed;
    run->reader = reader;
    run->assembler = (struct tws_assembler){
        .compression = run->assembler.compression,
        .stream = run->assembler.stream,
    };
}

static inline size_t
script_cut_next(const struct script_cut *cut, uint64_t *random, size_t at)
{
    switch (cut->mode) {
    case CUT_STEP:
        return cut->n;
    case CUT_RANDOM: {
        /* All magnitudes are alike, from a byte to more than 64 KiB. */
        unsigned bits = (unsigned)(script_random(random) % 18);
        return 1 + script_random(random) % (UINT64_C(1) << bits);
    }
    default:
        return at < cut->n        ? cut->n - at
               : at < cut->second ? cut->second - at
                                  : SIZE_MAX;
    }
}

static inline void
script_check_end(struct script_run *run, enum tws_status status, size_t before)
{
    const struct script *script = run->script;
    if (script->close_code == 0) {
        if (status != TWS_AGAIN) {
            run->problem = "it was refused";
        }
    }
    else if (status != TWS_PROTOCOL) {
        run->problem = "it was accepted";
    }
    else if (run->err.status != TWS_PROTOCOL || run->err.reason[0] == '\0'
             || run->err.close_code != script->close_code) {
        run->problem = "the close code of the error";
    }
    else if (!script->loose
             && (before >= script->shown || run->at < script->shown)) {
        run->problem = "the place of the error";
    }
    script_pass_discarded(run);
    if (run->problem == NULL && run->seen != script->count) {
        run->problem = "events are missing";
    }
}

/* False, with a line that tells how to repeat it, where the script gave
 * something else than it should. */
static inline bool
script_play(const struct script *script, const struct script_cut *cut)
{
    struct script_run run = {
        .script = script, .cut = *cut, .random = cut->seed * 2 + 1};
    uint64_t random = cut->seed * 2 + 1;
    enum tws_status status = TWS_AGAIN;
    size_t total = tws_buffer_length(&script->wire);
    size_t before = 0;
    tws_frame_reader_init(&run.reader, script->role);
    script_agree(&run);
    while (status == TWS_AGAIN && run.at < total && run.problem == NULL) {
        size_t length = script_cut_next(cut, &random, run.at);
        uint8_t *room;
        size_t size;
        if (length > total - run.at) {
            length = total - run.at;
        }
        before = run.at;
        if (run.at == 0 ? cut->chunked
                        : !run.assembler.chunked && script_chance(&run)) {
            script_begin_stream(&run);
        }
        if (cut->n % 2 == 1 || cut->seed % 2 == 1) {
            script_replace_at_rest(&run);
        }
        if (cut->direct
            && tws_receive_room(&run.reader, &run.assembler, &room, &size)
            && script_random(&random) % 4 != 0) {
            length = length < size ? length : size;
            status = script_give_direct(&run, room, length);
        }
        else {
            status = script_give_copy(&run, length, cut->guarded);
        }
        run.at += length;
    }
    if (status == TWS_AGAIN && run.problem == NULL) {
        status = script_give(&run, NULL, 0);
    }
    if (run.problem == NULL) {
        script_check_end(&run, status, before);
    }
    tws_assembler_release(&run.assembler);
    tws_compression_free(run.compression);
    tws_buffer_release(&run.chunks);
    if (run.problem != NULL) {
        fprintf(stderr,
                "%s; role %d, event %zu, byte %zu; cut mode %d, n %zu, "
                "second %zu, seed %llu, guarded %d, direct %d, chunked %d, "
                "mixed %d\n",
                run.problem, (int)script->role, run.seen, run.at,
                (int)cut->mode, cut->n, cut->second,
                (unsigned long long)cut->seed, cut->guarded, cut->direct,
                cut->chunked, cut->mixed);
    }
    return run.problem == NULL;
}

/* Whole, in steps of one byte and more, and cut at every place. */
static inline bool
script_play_everywhere(const struct script *script)
{
    size_t total = tws_buffer_length(&script->wire);
    bool good = script_play(script, &(struct script_cut){.n = total + 1});
    for (size_t n = 1; good && n <= 20; n += harness_step(6)) {
        good = script_play(script, &(struct script_cut){.n = n})
               && script_play(script,
                              &(struct script_cut){.n = n, .guarded = true});
    }
    for (size_t n = 1; good && n < total;
         n += harness_step(1 + (unsigned)total / 8)) {
        good = script_play(
            script,
            &(struct script_cut){.mode = CUT_ONCE, .n = n, .direct = true});
    }
    return good;
}

#endif /* TWS_TESTS_SCRIPT_H */
