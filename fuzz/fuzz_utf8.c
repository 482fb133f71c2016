/* UTF-8, against a decoder that thinks in code points: where text begins to be
 * wrong, wherever it was cut, and from whatever address it is read. */
#include "input.h"
#include "protocol/mask.h"
#include "protocol/utf8.h"

enum { LONGEST = 96 };

/* How many bytes the character has that begins with this one; 0: none does.
 */
static size_t
character_length(uint8_t lead)
{
    return lead < 0x80                   ? 1
           : lead >= 0xc0 && lead < 0xe0 ? 2
           : lead >= 0xe0 && lead < 0xf0 ? 3
           : lead >= 0xf0 && lead < 0xf8 ? 4
                                         : 0;
}

/* Is there a character that begins with these bytes? The rest of it is all
 * zeros at least, and all ones at most; between them lies what it may be. */
static bool
begins_character(const uint8_t *data, size_t have)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t length = character_length(data[0]);
    if (length == 0) {
        return false;
    }
    uint32_t low = length == 1 ? data[0] : data[0] & (0x7fU >> length);
    uint32_t high = low;
    for (size_t i = 1; i < length; i++) {
        if (i < have && (data[i] & 0xc0) != 0x80) {
            return false;
        }
        low = low << 6 | (i < have ? data[i] & 0x3fU : 0);
        high = high << 6 | (i < have ? data[i] & 0x3fU : 0x3f);
    }
    if (low < least[length]) {
        low = least[length];
    }
    if (high > 0x10ffff) {
        high = 0x10ffff;
    }
    return low <= high && !(low >= 0xd800 && high <= 0xdfff);
}

/* How many bytes at the front can begin valid text; *whole: it may end there.
 */
static size_t
count_good(const uint8_t *data, size_t length, bool *whole)
{
    size_t start = 0;
    for (size_t at = 0; at < length; at++) {
        if (!begins_character(data + start, at + 1 - start)) {
            *whole = false;
            return at;
        }
        if (at + 1 - start == character_length(data[start])) {
            start = at + 1;
        }
    }
    *whole = start == length;
    return length;
}

static bool
feed(struct tws_utf8 *state, const uint8_t *data, size_t length)
{
    uint8_t *copy = exact_begin(data, length);
    bool good = tws_utf8_feed(state, copy, length);
    exact_end(copy);
    return good;
}

static void
check_splits(const uint8_t *data, size_t length, size_t good, bool whole)
{
    for (size_t cut = 0; cut <= length; cut++) {
        struct tws_utf8 state = {0};
        require(feed(&state, data, cut) == (cut <= good));
        if (cut <= good) {
            require(feed(&state, data + cut, length - cut)
                    == (good == length));
            require(good < length || tws_utf8_complete(&state) == whole);
        }
    }
    struct tws_utf8 state = {0};
    size_t at = 0;
    while (at < length && feed(&state, data + at, 1)) {
        at++;
    }
    require(at == good);
    require(good < length || tws_utf8_complete(&state) == whole);
}

static void
check_ascii(const uint8_t *data, size_t length)
{
    uint8_t key[4] = {0x37, 0xfa, 0x21, 0x3d};
    uint8_t masked[LONGEST];
    uint8_t plain[LONGEST];
    for (size_t from = 0; from <= length && from < 9; from++) {
        size_t left = length - from;
        bool ascii = true;
        for (size_t i = from; i < length; i++) {
            masked[i] = data[i] ^ key[i % 4];
            ascii = ascii && data[i] < 0x80;
        }
        uint8_t *copy = exact_begin(data + from, left);
        require(tws_utf8_is_ascii(copy, left) == ascii);
        exact_end(copy);
        copy = exact_begin(masked + from, left);
        require(tws_mask_ascii(plain, copy, left, key, from) == ascii);
        require(left == 0 || memcmp(plain, data + from, left) == 0);
        tws_mask(copy, copy, left, key, from); /* in place */
        require(left == 0 || memcmp(copy, data + from, left) == 0);
        exact_end(copy);
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > LONGEST) {
        return 0;
    }
    bool whole;
    size_t good = count_good(data, size, &whole);
    require(tws_utf8_valid(data, size) == (good == size && whole));
    check_splits(data, size, good, whole);
    check_ascii(data, size);
    return 0;
}
