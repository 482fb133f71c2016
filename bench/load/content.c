#include "load.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MASK = 0x80,
    KEY_SIZE = 4,
    BLOCK = 64 * 1024,  /* written at once, about */
    CONTROL_ROOM = 512, /* for control frames, or a request, beside data */
    DEFLATED_VARIANTS = 64,
    DEFLATE_WINDOW = 12,
    DEFLATE_MEMORY = 5,
};

/* Any key but zero makes the server unmask. */
static const uint8_t key[KEY_SIZE] = {0x37, 0xfa, 0x21, 0x3d};

/* Payloads ---------------------------------------------------------------- */

/* A generator of Marsaglia's: the same bytes in each run. */
static uint32_t
next_random(uint32_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

static void
fill_utf8(uint8_t *payload, size_t size, uint32_t *state)
{
    static const char *const characters[] = {
        "a",      "e",      " ",      "\u00fc", "\u00e9",
        "\u0416", "\u4e16", "\u754c", "\u20ac", "\U0001f30d",
    };
    size_t at = 0;
    while (at < size) {
        uint32_t choice = next_random(state) >> 8;
        const char *text =
            characters[choice % (sizeof(characters) / sizeof(*characters))];
        size_t length = strlen(text);
        if (at < STAMP_MAX || length > size - at) {
            text = "x"; /* digits come to stand here, or no room is left */
            length = 1;
        }
        memcpy(payload + at, text, length);
        at += length;
    }
}

static void
fill_json(uint8_t *payload, size_t size, uint32_t *state)
{
    static const char *const words[] = {"open", "closed", "new", "waiting"};
    char record[256];
    size_t at = 0;
    while (at < size) {
        uint32_t a = next_random(state) >> 8;
        uint32_t b = next_random(state) >> 8;
        int length = snprintf(record, sizeof(record),
                              "%s{\"id\":%" PRIu32 ",\"name\":\"user-%" PRIu32
                              "\",\"state\":\"%s\",\"price\":%" PRIu32
                              ".%02" PRIu32 ",\"tags\":[\"%06" PRIx32
                              "\"],\"updated\":\"2024-05-%02" PRIu32
                              "T%02" PRIu32 ":00:00Z\"}",
                              at == 0 ? "[" : ",", a, b % 1000, words[a % 4],
                              b % 500, a % 100, b, 1 + a % 28, b % 24);
        size_t part = (size_t)length < size - at ? (size_t)length : size - at;
        memcpy(payload + at, record, part);
        at += part;
    }
}

static void
fill(const struct plan *plan, unsigned number, uint8_t *payload)
{
    uint32_t state = 2463534242U + number;
    if (plan->content == CONTENT_UTF8) {
        fill_utf8(payload, plan->size, &state);
        return;
    }
    if (plan->content == CONTENT_JSON) {
        fill_json(payload, plan->size, &state);
        return;
    }
    for (size_t i = 0; i < plan->size; i++) {
        uint32_t value = next_random(&state) >> 8;
        payload[i] =
            (uint8_t)(plan->content == CONTENT_BINARY ? value
                                                      : 'a' + value % 26);
    }
}

/* Frames ------------------------------------------------------------------ */

/* RFC 6455 section 5.2, minimal lengths. Returns the header's bytes. */
static size_t
make_prefix(uint8_t first, uint64_t length, uint8_t *at)
{
    unsigned bytes = length < 126 ? 0 : length <= 0xffff ? 2 : 8;
    at[0] = first;
    at[1] = (uint8_t)(MASK | (bytes == 0 ? length : bytes == 2 ? 126 : 127));
    for (unsigned i = 0; i < bytes; i++) {
        at[2 + i] = (uint8_t)(length >> (8 * (bytes - 1 - i)));
    }
    memcpy(at + 2 + bytes, key, KEY_SIZE);
    return 2 + bytes + KEY_SIZE;
}

static void
mask(uint8_t *to, const uint8_t *from, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        to[i] = from[i] ^ key[i % KEY_SIZE];
    }
}

/* RFC 7692 section 7.2.1, without the context of earlier messages. Returns
 * the length. */
static size_t
deflate_alone(const uint8_t *data, size_t size, uint8_t *out, size_t room)
{
    z_stream stream = {0};
    if (deflateInit2(&stream, 6, Z_DEFLATED, -DEFLATE_WINDOW, DEFLATE_MEMORY,
                     Z_DEFAULT_STRATEGY)
        != Z_OK) {
        load_fail("deflateInit2 failed");
    }
    stream.next_in = (z_const Bytef *)data;
    stream.avail_in = (uInt)size;
    stream.next_out = out;
    stream.avail_out = (uInt)room;
    if (deflate(&stream, Z_SYNC_FLUSH) != Z_OK || stream.avail_in != 0
        || stream.avail_out == 0) {
        load_fail("deflate failed");
    }
    (void)deflateEnd(&stream); /* it tells that data was left: none is */
    return room - stream.avail_out - 4;
}

static void
make_variant(struct load *load, unsigned number)
{
    const struct plan *plan = &load->plan;
    struct variant *variant = &load->variants[number];
    size_t room = plan->size + plan->size / 8 + 256;
    uint8_t first = (uint8_t)(FIN | load->opcode);
    variant->payload = load_allocate(plan->size + 1, 1);
    variant->frame = load_allocate(HEADER_MAX + room, 1);
    fill(plan, number, variant->payload);
    if (!plan->compress) {
        variant->prefix_size = make_prefix(first, plan->size, variant->frame);
        variant->frame_size = variant->prefix_size + plan->size;
        mask(variant->frame + variant->prefix_size, variant->payload,
             plan->size);
        return;
    }
    uint8_t *deflated = load_allocate(room, 1);
    size_t size = deflate_alone(variant->payload, plan->size, deflated, room);
    variant->prefix_size = make_prefix(first | RSV1, size, variant->frame);
    variant->frame_size = variant->prefix_size + size;
    mask(variant->frame + variant->prefix_size, deflated, size);
    free(deflated);
}

void
content_make(struct load *load)
{
    const struct plan *plan = &load->plan;
    size_t most = 0;
    load->opcode =
        plan->content == CONTENT_BINARY ? OPCODE_BINARY : OPCODE_TEXT;
    load->variant_count = plan->compress ? DEFLATED_VARIANTS : 1;
    load->variants =
        load_allocate(load->variant_count, sizeof(*load->variants));
    for (unsigned i = 0; i < load->variant_count; i++) {
        make_variant(load, i);
        if (load->variants[i].frame_size > most) {
            most = load->variants[i].frame_size;
        }
    }
    size_t frames = BLOCK / most + 1;
    if (frames > plan->depth) {
        frames = plan->depth;
    }
    load->out_size = frames * most + CONTROL_ROOM;
}

void
content_release(struct load *load)
{
    for (unsigned i = 0; i < load->variant_count; i++) {
        free(load->variants[i].payload);
        free(load->variants[i].frame);
    }
    free(load->variants);
}

const struct variant *
content_variant(const struct load *load, const struct peer *peer,
                uint32_t number)
{
    return &load->variants[(number + peer->id * 7) % load->variant_count];
}

/* The latest messages differ even by the first byte. What is deflated is made
 * in advance, so the variants alone tell its messages apart. */
size_t
content_stamp(const struct load *load, const struct peer *peer,
              uint32_t number, uint8_t stamp[static STAMP_MAX])
{
    static const char digits[] = "0123456789abcdef";
    bool shared = load->plan.mode == MODE_FANOUT;
    uint64_t value = (uint64_t)(shared ? 0 : peer->id) << 32 | number;
    size_t length = load->plan.size < STAMP_MAX ? load->plan.size : STAMP_MAX;
    if (load->plan.compress) {
        return 0;
    }
    for (size_t i = 0; i < length; i++) {
        stamp[i] = (uint8_t)digits[value & 0xf];
        value >>= 4;
    }
    return length;
}

/* Putting ----------------------------------------------------------------- */

void
content_put(struct load *load, struct peer *peer)
{
    const struct variant *variant = content_variant(load, peer, peer->sent);
    uint8_t *at = peer->out + peer->out_length;
    uint8_t stamp[STAMP_MAX];
    size_t length = content_stamp(load, peer, peer->sent, stamp);
    memcpy(at, variant->frame, variant->frame_size);
    mask(at + variant->prefix_size, stamp, length);
    if (load->plan.rate == 0) {
        peer->put_at[peer->sent % load->plan.depth] = load->now;
    }
    peer->out_length += variant->frame_size;
    peer->sent++;
    peer->owed--;
}

bool
content_put_control(struct load *load, struct peer *peer, uint8_t opcode,
                    const uint8_t *payload, size_t length)
{
    if (peer->out_length + HEADER_MAX + length > load->out_size) {
        return false;
    }
    uint8_t *at = peer->out + peer->out_length;
    size_t prefix = make_prefix((uint8_t)(FIN | opcode), length, at);
    mask(at + prefix, payload, length);
    peer->out_length += prefix + length;
    return true;
}
