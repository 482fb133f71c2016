#include "protocol/mask.h"

#include "guard.h"
#include "harness.h"

enum {
    LENGTHS = 200, /* past every block size */
    ALIGNMENTS = 16,
    ROOM = LENGTHS + 2 * ALIGNMENTS,
    CANARY = 0xc3,
};

static const uint8_t key[4] = {0x37, 0xfa, 0x21, 0x3d};

static const uint64_t offsets[] = {
    0, 1, 2, 3, 4, 7, UINT32_MAX, UINT64_C(1) << 40 | 1, UINT64_MAX,
};

/* RFC 6455 §5.3, byte by byte. */
static void
mask_slowly(uint8_t *dst, const uint8_t *src, size_t length, uint64_t offset)
{
    for (size_t i = 0; i < length; i++) {
        dst[i] = src[i] ^ key[(offset % 4 + i) % 4];
    }
}

static void
fill(uint8_t *bytes, size_t length, unsigned seed)
{
    for (size_t i = 0; i < length; i++) {
        seed = seed * 1103515245u + 12345u;
        bytes[i] = (uint8_t)(seed >> 16);
    }
}

static bool
is_all(const uint8_t *bytes, size_t length, uint8_t value)
{
    for (size_t i = 0; i < length; i++) {
        if (bytes[i] != value) {
            return false;
        }
    }
    return true;
}

/* The example of RFC 6455 §5.7: a masked "Hello". */
TEST(the_example_of_the_rfc)
{
    const uint8_t masked[] = {0x7f, 0x9f, 0x4d, 0x51, 0x58};
    uint8_t text[sizeof(masked)];
    tws_mask(text, masked, sizeof(masked), key, 0);
    CHECK_BYTES(text, sizeof(text), "Hello");
    CHECK(tws_mask_ascii(text, masked, sizeof(masked), key, 0));
    CHECK_BYTES(text, sizeof(text), "Hello");
}

static void
check_disjoint(size_t src_align, size_t dst_align, size_t length,
               uint64_t offset, bool ascii)
{
    uint8_t src[ROOM];
    uint8_t dst[ROOM];
    uint8_t expected[LENGTHS];
    fill(src, sizeof(src), (unsigned)(length + src_align));
    memset(dst, CANARY, sizeof(dst));
    mask_slowly(expected, src + src_align, length, offset);
    if (ascii) {
        (void)tws_mask_ascii(dst + dst_align, src + src_align, length, key,
                             offset);
    }
    else {
        tws_mask(dst + dst_align, src + src_align, length, key, offset);
    }
    CHECK(memcmp(dst + dst_align, expected, length) == 0);
    CHECK(is_all(dst, dst_align, CANARY));
    CHECK(is_all(dst + dst_align + length, ROOM - dst_align - length, CANARY));
}

TEST(every_length_and_alignment)
{
    for (size_t length = 0; length <= LENGTHS; length++) {
        for (size_t src = 0; src < ALIGNMENTS; src += 3) {
            for (size_t dst = 0; dst < ALIGNMENTS; dst++) {
                check_disjoint(src, dst, length, length + src, false);
                check_disjoint(src, dst, length, length + dst, true);
            }
        }
    }
}

TEST(every_length_and_offset)
{
    for (size_t length = 0; length <= LENGTHS; length++) {
        for (size_t i = 0; i < TWS_ARRAY_SIZE(offsets); i++) {
            check_disjoint(i, 1, length, offsets[i], false);
            check_disjoint(i, 1, length, offsets[i], true);
        }
    }
}

TEST(in_place)
{
    for (size_t length = 0; length <= LENGTHS; length++) {
        for (size_t align = 0; align < ALIGNMENTS; align++) {
            uint8_t bytes[ROOM];
            uint8_t before[ROOM];
            uint8_t expected[ROOM];
            fill(before, sizeof(before), (unsigned)length);
            memcpy(expected, before, sizeof(expected));
            mask_slowly(expected + align, before + align, length, align);
            memcpy(bytes, before, sizeof(bytes));
            tws_mask(bytes + align, bytes + align, length, key, align);
            CHECK(memcmp(bytes, expected, sizeof(bytes)) == 0);
            memcpy(bytes, before, sizeof(bytes));
            (void)tws_mask_ascii(bytes + align, bytes + align, length, key,
                                 align);
            CHECK(memcmp(bytes, expected, sizeof(bytes)) == 0);
        }
    }
}

/* A payload in two pieces, cut anywhere, is masked as it is in one. */
TEST(pieces_continue_the_key)
{
    uint8_t src[LENGTHS];
    uint8_t whole[LENGTHS];
    fill(src, sizeof(src), 5);
    mask_slowly(whole, src, sizeof(src), 0);
    for (size_t cut = 0; cut <= sizeof(src); cut++) {
        uint8_t pieces[LENGTHS];
        tws_mask(pieces, src, cut, key, 0);
        tws_mask(pieces + cut, src + cut, sizeof(src) - cut, key, cut);
        CHECK(memcmp(pieces, whole, sizeof(whole)) == 0);
    }
}

TEST(a_large_payload)
{
    const size_t length = 1000003;
    uint8_t *src = malloc(length);
    uint8_t *dst = malloc(length);
    uint8_t *expected = malloc(length);
    CHECK(src != NULL && dst != NULL && expected != NULL);
    fill(src, length, 9);
    mask_slowly(expected, src, length, 3);
    tws_mask(dst, src, length, key, 3);
    CHECK(memcmp(dst, expected, length) == 0);
    tws_mask(src, src, length, key, 3);
    CHECK(memcmp(src, expected, length) == 0);
    free(src);
    free(dst);
    free(expected);
}

/* One byte above 0x7f, with every value that matters, at every position. */
TEST(ascii_is_told_from_the_rest)
{
    static const uint8_t high[] = {0x80, 0x81, 0xc3, 0xff};
    for (size_t length = 0; length <= LENGTHS; length++) {
        uint8_t text[LENGTHS];
        uint8_t masked[LENGTHS] = {0};
        uint8_t out[LENGTHS];
        for (size_t i = 0; i < length; i++) {
            text[i] = (uint8_t)(i % 3 == 0 ? 0x7f : i & 0x7f);
        }
        mask_slowly(masked, text, length, length);
        CHECK(tws_mask_ascii(out, masked, length, key, length));
        CHECK(memcmp(out, text, length) == 0);
        for (size_t at = 0; at < length; at++) {
            uint8_t kept = masked[at];
            masked[at] =
                kept ^ text[at] ^ high[(at + length) % TWS_ARRAY_SIZE(high)];
            CHECK(!tws_mask_ascii(out, masked, length, key, length));
            masked[at] = kept;
        }
    }
}

/* The masked bytes don't decide, the resulting ones do. */
TEST(ascii_is_judged_after_unmasking)
{
    const uint8_t high_key[4] = {0x80, 0x80, 0x80, 0x80};
    uint8_t bytes[LENGTHS];
    for (size_t length = 1; length <= LENGTHS; length++) {
        memset(bytes, 0xe1, length);
        CHECK(tws_mask_ascii(bytes, bytes, length, high_key, 0));
        CHECK(is_all(bytes, length, 0x61));
        CHECK(!tws_mask_ascii(bytes, bytes, length, high_key, 0));
    }
}

/* Source and destination of exactly the length, against unreadable memory
 * behind and (under a memory checker) in front. */
TEST(nothing_outside_is_touched)
{
    for (size_t length = 0; length <= LENGTHS; length++) {
        uint8_t bytes[LENGTHS + 1];
        uint8_t expected[LENGTHS + 1];
        fill(bytes, sizeof(bytes), 3);
        mask_slowly(expected, bytes, length, 1);
        struct guard src = guard_copy(bytes, length);
        struct guard dst = guard_copy(bytes, length);
        tws_mask(dst.data, src.data, length, key, 1);
        CHECK(memcmp(dst.data, expected, length) == 0);
        (void)tws_mask_ascii(src.data, src.data, length, key, 1);
        CHECK(memcmp(src.data, expected, length) == 0);
        guard_free(&src);
        guard_free(&dst);

        uint8_t *exact = malloc(length > 0 ? length : 1);
        CHECK(exact != NULL);
        memcpy(exact, bytes, length);
        tws_mask(exact, exact, length, key, 1);
        CHECK(memcmp(exact, expected, length) == 0);
        free(exact);
    }
}

RUN(T(the_example_of_the_rfc), T(every_length_and_alignment),
    T(every_length_and_offset), T(in_place), T(pieces_continue_the_key),
    T(a_large_payload), T(ascii_is_told_from_the_rest),
    T(ascii_is_judged_after_unmasking), T(nothing_outside_is_touched))
