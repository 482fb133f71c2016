/* A raw client that compresses and inflates, and a server whose clients have
 * agreed on that. */
#ifndef TWS_TESTS_COMPRESSED_PEER_H
#define TWS_TESTS_COMPRESSED_PEER_H

#include "engine_fixture.h"

enum { THRESHOLD = 64 };

/* What clients agree on from now on. */
static struct tws_compression_terms agreed_terms;
static struct tws_deflate_pool *agreed_pool; /* NULL: nothing */

static inline void
agree_on(bool per_frame, bool takeover)
{
    agreed_terms = (struct tws_compression_terms){
        .out = {.window_bits = 12, .mem_level = 5, .level = -1},
        .in_window_bits = 12,
        .per_frame = per_frame,
        .out_takeover = takeover,
        .in_takeover = takeover,
        .threshold = THRESHOLD,
    };
    if (agreed_pool == NULL) {
        agreed_pool = tws_deflate_pool_new();
        must(agreed_pool != NULL, "tws_deflate_pool_new");
    }
}

static inline void
agree_on_nothing(void)
{
    tws_deflate_pool_release(agreed_pool);
    agreed_pool = NULL;
}

/* As handlers->open: what a handshake leaves behind. */
static inline void
agree(struct fixture *fixture, struct tws_client *client)
{
    (void)fixture;
    if (agreed_pool == NULL) {
        return;
    }
    client->compression = tws_compression_new(&agreed_terms, agreed_pool);
    must(client->compression != NULL, "tws_compression_new");
    client->rules.rsv = TWS_RSV1;
    client->receiving->assembler.compression = client->compression;
    client->receiving->reader.rsv_allowed = TWS_RSV1;
}

struct peer {
    struct tws_compression_terms terms;
    int fd;
    struct tws_inflater *inflater;
    struct tws_deflater *deflater;
    unsigned compressed; /* frames that were */
};

static inline struct peer
peer_of(int fd)
{
    struct peer peer = {
        .terms = agreed_terms,
        .fd = fd,
        .inflater = tws_inflater_new(agreed_terms.out.window_bits),
        .deflater = tws_deflater_new(&agreed_terms.out),
    };
    must(peer.inflater != NULL && peer.deflater != NULL, "zlib");
    return peer;
}

static inline void
peer_free(struct peer *peer)
{
    tws_inflater_free(peer->inflater);
    tws_deflater_free(peer->deflater);
}

static inline void
peer_close(struct peer *peer)
{
    close_politely(peer->fd);
    peer_free(peer);
}

/* Writes a frame, compressed; `end` as of tws_deflater_add(). */
static inline void
peer_put_frame(struct peer *peer, unsigned first, bool rsv1, const void *data,
               size_t length, bool end)
{
    struct tws_buffer out = TWS_BUFFER_EMPTY;
    struct tws_error err;
    struct tws_span span = {.data = data, .length = length};
    must(tws_deflater_add(peer->deflater, span, end, &out, &err) == TWS_OK,
         "tws_deflater_add");
    if (end && !peer->terms.in_takeover) {
        tws_deflater_reset(peer->deflater);
    }
    put_frame(peer->fd, first | (rsv1 ? TWS_RSV1 : 0), tws_buffer_data(&out),
              tws_buffer_length(&out));
    tws_buffer_release(&out);
}

static inline void
peer_put(struct peer *peer, unsigned first, const void *data, size_t length)
{
    peer_put_frame(peer, first, true, data, length, true);
}

static inline void
peer_put_text(struct peer *peer, const char *text)
{
    peer_put(peer, TEXT, text, strlen(text));
}

/* Appends what the compressed bytes stand for. False: they are broken. */
static inline bool
peer_inflate(struct peer *peer, const struct wire_frame *frame, bool end,
             struct tws_buffer *out)
{
    struct tws_input input = {.data = frame->data, .length = frame->length};
    enum tws_status status = TWS_AGAIN;
    struct tws_error err;
    size_t got = 0;
    while (status == TWS_AGAIN) {
        uint8_t *room;
        must(tws_buffer_reserve(out, 5000, &room) == TWS_OK, "malloc");
        bool more = input.length > 0 || got == 5000;
        if (more) {
            status = tws_inflater_read(peer->inflater, &input, room, 5000,
                                       &got, &err);
            status =
                status == TWS_OK && (end || input.length > 0 || got == 5000)
                    ? TWS_AGAIN
                    : status;
        }
        else {
            status =
                end ? tws_inflater_end(peer->inflater, room, 5000, &got, &err)
                    : TWS_OK;
        }
        if (status == TWS_OK || status == TWS_AGAIN) {
            tws_buffer_commit(out, got);
            got = more ? got : 0;
        }
    }
    if (end && !peer->terms.out_takeover) {
        tws_inflater_reset(peer->inflater);
    }
    return status == TWS_OK;
}

/* A message, whole. `pings`: how many may come in between. */
struct whole {
    struct tws_buffer data;
    unsigned first; /* of its first frame */
    unsigned frames;
    unsigned compressed; /* of these */
    unsigned controls;   /* frames between them */
};

static inline bool
peer_take(struct peer *peer, struct whole *whole)
{
    struct wire_frame frame;
    bool rsv1 = false;
    bool good = true;
    *whole = (struct whole){0};
    do {
        if (!take_frame(peer->fd, &frame)) {
            return false;
        }
        if (tws_opcode_is_control(frame.first & 0x0f)) {
            CHECK(frame.first != CLOSE);
            whole->controls++;
            CHECK_INT(frame.first & TWS_RSV, 0);
            good = frame.first != CLOSE;
            free(frame.data);
            frame.first = 0;
            continue;
        }
        bool fin = (frame.first & TWS_FIN) != 0;
        bool marked = (frame.first & TWS_RSV1) != 0;
        if (whole->frames++ == 0) {
            whole->first = frame.first;
            rsv1 = marked;
            CHECK((frame.first & 0x0f) != TWS_OPCODE_CONTINUATION);
        }
        else {
            CHECK_INT(frame.first & 0x0f, TWS_OPCODE_CONTINUATION);
            CHECK(!marked || peer->terms.per_frame);
        }
        if (peer->terms.per_frame) {
            rsv1 = marked;
        }
        if (rsv1) {
            whole->compressed++;
            peer->compressed++;
            good = peer_inflate(peer, &frame, fin || peer->terms.per_frame,
                                &whole->data);
        }
        else {
            good = tws_buffer_append(&whole->data, frame.data, frame.length)
                   == TWS_OK;
        }
        CHECK(good);
        free(frame.data);
    } while (good && (frame.first & TWS_FIN) == 0);
    return good;
}

/* The next message has these bytes; `compressed` of its frames are. */
static inline void
peer_expect(struct peer *peer, unsigned opcode, const void *data,
            size_t length, unsigned frames, unsigned compressed)
{
    struct whole whole;
    bool got = peer_take(peer, &whole);
    CHECK(got);
    if (got) {
        CHECK_INT(whole.first & 0x0f, opcode);
        CHECK_INT(tws_buffer_length(&whole.data), length);
        CHECK(tws_buffer_length(&whole.data) == length
              && (length == 0
                  || memcmp(tws_buffer_data(&whole.data), data, length) == 0));
        CHECK_INT(whole.frames, frames);
        CHECK_INT(whole.compressed, compressed);
    }
    tws_buffer_release(&whole.data);
}

static inline void
peer_expect_text(struct peer *peer, const char *text, bool compressed)
{
    peer_expect(peer, TWS_OPCODE_TEXT, text, strlen(text), 1, compressed);
}

/* A test of this name for each of the four kinds of terms. */
#define EACH_TERMS(name)                                                      \
    static void name##_on(bool per_frame, bool takeover);                     \
    TEST(name)                                                                \
    {                                                                         \
        for (int i = 0; i < 4 && harness_failures == 0; i++) {                \
            agree_on(i % 2 != 0, i >= 2);                                     \
            name##_on(i % 2 != 0, i >= 2);                                    \
            if (harness_failures > 0) {                                       \
                fprintf(stderr, "%s: failed on terms %d\n", #name, i);        \
            }                                                                 \
            agree_on_nothing();                                               \
        }                                                                     \
    }                                                                         \
    static void name##_on(bool per_frame, bool takeover)

#endif /* TWS_TESTS_COMPRESSED_PEER_H */
