/* The nonces of Digest: those that were made are used with counts in any
 * order, as time passes and all is forgotten, and a list of all counts that
 * were ever used says which of them are replays. The input is commands. */
#include "input.h"
#include "protocol/digest_nonces.h"

#define MILLISECOND UINT64_C(1000000)

enum { MADE_MAX = 8, USES_MAX = 64, LONGEST = 120, WINDOW = 64 };

struct made {
    char text[TWS_NONCE_LENGTH];
    uint64_t at; /* milliseconds */
    bool known;  /* it was used, and is remembered */
    uint32_t highest;
    uint32_t counts[USES_MAX]; /* that were used */
    size_t used;
};

static struct tws_nonces nonces;
static struct made made[MADE_MAX];
static size_t made_count;
static uint64_t now;          /* nanoseconds */
static uint64_t lifetime;     /* milliseconds */
static uint64_t stale_before; /* milliseconds */

static void
make(void)
{
    const uint8_t random[TWS_NONCE_RANDOM] = {(uint8_t)made_count};
    struct tws_error err;
    if (made_count == MADE_MAX) {
        return;
    }
    struct made *m = &made[made_count];
    require(tws_nonces_make(&nonces, now, random, m->text, &err) == TWS_OK);
    m->at = now / MILLISECOND;
    m->known = false;
    m->used = 0;
    m->highest = 0;
    made_count++;
}

static enum tws_nonce_state
expected_state(const struct made *m, uint32_t count)
{
    if (now / MILLISECOND - m->at > lifetime) {
        return TWS_NONCE_STALE;
    }
    if (!m->known) {
        return m->at < stale_before ? TWS_NONCE_STALE : TWS_NONCE_GOOD;
    }
    if (m->highest > count && m->highest - count >= WINDOW) {
        return TWS_NONCE_USED; /* too far behind to tell */
    }
    for (size_t i = 0; i < m->used; i++) {
        if (m->counts[i] == count) {
            return TWS_NONCE_USED;
        }
    }
    return TWS_NONCE_GOOD;
}

static enum tws_nonce_state
use_text(const char *text, size_t length, uint32_t count)
{
    enum tws_nonce_state state;
    struct tws_error err;
    uint8_t *copy = exact_begin(text, length);
    struct tws_span nonce = {.data = (const char *)copy, .length = length};
    require(tws_nonces_use(&nonces, nonce, count, now, &state, &err)
            == TWS_OK);
    exact_end(copy);
    return state;
}

static void
use(struct made *m, uint32_t count)
{
    if (m->used == USES_MAX) {
        return;
    }
    enum tws_nonce_state expected = expected_state(m, count);
    require(use_text(m->text, sizeof(m->text), count) == expected);
    if (expected == TWS_NONCE_GOOD) {
        m->known = true;
        m->counts[m->used] = count;
        m->used++;
        m->highest = count > m->highest ? count : m->highest;
    }
}

/* One letter is another, or the end is missing. */
static void
use_forged(const struct made *m, uint8_t choice)
{
    char text[TWS_NONCE_LENGTH];
    memcpy(text, m->text, sizeof(text));
    if (choice % 4 == 3) {
        require(use_text(text, choice % TWS_NONCE_LENGTH, 1)
                == TWS_NONCE_FOREIGN);
        return;
    }
    char *letter = &text[choice % TWS_NONCE_LENGTH];
    *letter = *letter == '0' ? 'A' : choice >= 128 ? '0' : 'g';
    require(use_text(text, sizeof(text), 1) == TWS_NONCE_FOREIGN);
}

static void
forget(void)
{
    tws_nonces_forget(&nonces, now);
    stale_before = now / MILLISECOND + 1;
    for (size_t i = 0; i < made_count; i++) {
        made[i].known = false;
        made[i].used = 0;
        made[i].highest = 0;
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t secret[TWS_NONCE_SECRET] = "secret";
    struct input input = {.data = data, .length = size};
    if (size > LONGEST) {
        return 0;
    }
    lifetime = (uint64_t)1 << input_byte(&input) % 20;
    now = 5 * MILLISECOND;
    stale_before = 0;
    made_count = 0;
    tws_nonces_init(&nonces, secret, lifetime * MILLISECOND);
    make();
    while (input.length > 0) {
        uint8_t command = input_byte(&input);
        struct made *m = &made[command / 8 % made_count];
        uint8_t choice = input_byte(&input);
        switch (command % 8) {
        case 0:
            make();
            break;
        case 1:
            now += MILLISECOND / 2 << choice % 20;
            break;
        case 2:
            use_forged(m, choice);
            break;
        case 3:
            if (choice % 16 == 0) {
                forget();
            }
            break;
        case 4:
            use(m, UINT32_MAX - choice);
            break;
        default:
            use(m, choice + 1U);
            break;
        }
    }
    return 0;
}
