#include "protocol/digest_nonces.h"

#include "protocol/digest.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

enum {
    TIME_SIZE = 8,
    MAC_SIZE = 16, /* of HMAC-SHA256, cut (RFC 2104 §5) */
    NONCE_SIZE = TWS_NONCE_ID + MAC_SIZE,
    WINDOW = 64, /* bits of `used` */
};

#define MILLISECOND ((uint64_t)1000 * 1000)

_Static_assert(TIME_SIZE + TWS_NONCE_RANDOM == TWS_NONCE_ID, "parts");
_Static_assert(2 * NONCE_SIZE == TWS_NONCE_LENGTH, "hexadecimal");
_Static_assert(TWS_NONCES_MAX < UINT16_MAX, "index + 1 fits");
_Static_assert((TWS_NONCES_CHAINS & (TWS_NONCES_CHAINS - 1)) == 0, "mask");

void
tws_nonces_init(struct tws_nonces *nonces,
                const uint8_t secret[TWS_NONCE_SECRET], uint64_t lifetime_ns)
{
    memset(nonces, 0, sizeof(*nonces));
    memcpy(nonces->secret, secret, TWS_NONCE_SECRET);
    nonces->lifetime = lifetime_ns / MILLISECOND;
}

void
tws_nonces_forget(struct tws_nonces *nonces, uint64_t now)
{
    memset(nonces->chains, 0, sizeof(nonces->chains));
    nonces->count = 0;
    nonces->oldest = 0;
    nonces->stale_before = now / MILLISECOND + 1;
}

static enum tws_status
authenticate(const struct tws_nonces *nonces, const uint8_t id[TWS_NONCE_ID],
             uint8_t mac[MAC_SIZE], struct tws_error *err)
{
    uint8_t whole[EVP_MAX_MD_SIZE];
    unsigned int length = 0;
    /* What it says about a failure must not stay on the thread's queue. */
    (void)ERR_set_mark();
    bool done = HMAC(EVP_sha256(), nonces->secret, TWS_NONCE_SECRET, id,
                     TWS_NONCE_ID, whole, &length)
                    != NULL
                && length >= MAC_SIZE;
    (void)ERR_pop_to_mark();
    if (!done) {
        return tws_error_nomem(err);
    }
    memcpy(mac, whole, MAC_SIZE);
    return TWS_OK;
}

enum tws_status
tws_nonces_make(const struct tws_nonces *nonces, uint64_t now,
                const uint8_t random[TWS_NONCE_RANDOM],
                char out[TWS_NONCE_LENGTH], struct tws_error *err)
{
    static const char DIGITS[] = "0123456789abcdef";
    uint8_t bytes[NONCE_SIZE];
    tws_store_be64(bytes, now / MILLISECOND);
    memcpy(bytes + TIME_SIZE, random, TWS_NONCE_RANDOM);
    enum tws_status status =
        authenticate(nonces, bytes, bytes + TWS_NONCE_ID, err);
    if (status != TWS_OK) {
        return status;
    }
    for (size_t i = 0; i < NONCE_SIZE; i++) {
        out[2 * i] = DIGITS[bytes[i] >> 4];
        out[2 * i + 1] = DIGITS[bytes[i] & 15];
    }
    return TWS_OK;
}

/* -1 where it is none of the digits that tws_nonces_make() writes. */
static int
digit_value(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool
decode(struct tws_span nonce, uint8_t bytes[NONCE_SIZE])
{
    if (nonce.length != TWS_NONCE_LENGTH) {
        return false;
    }
    for (size_t i = 0; i < NONCE_SIZE; i++) {
        int high = digit_value(nonce.data[2 * i]);
        int low = digit_value(nonce.data[2 * i + 1]);
        if (high < 0 || low < 0) {
            return false;
        }
        bytes[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

/* Nobody but us chooses the bytes, so that a part of them is hash enough. */
static uint16_t *
chain_of(struct tws_nonces *nonces, const uint8_t id[TWS_NONCE_ID])
{
    unsigned index = tws_load_be16(id + TWS_NONCE_ID - 2);
    return &nonces->chains[index & (TWS_NONCES_CHAINS - 1)];
}

/* Where the entry's number stands, in its chain or at the chain's end. */
static uint16_t *
find(struct tws_nonces *nonces, const uint8_t id[TWS_NONCE_ID])
{
    uint16_t *link = chain_of(nonces, id);
    while (*link != 0) {
        struct tws_nonce_entry *entry = &nonces->entries[*link - 1];
        if (memcmp(entry->id, id, TWS_NONCE_ID) == 0) {
            break;
        }
        link = &entry->next;
    }
    return link;
}

/* A free entry; where there is none, that of the one that came first. */
static struct tws_nonce_entry *
take_entry(struct tws_nonces *nonces)
{
    if (nonces->count < TWS_NONCES_MAX) {
        nonces->count++;
        return &nonces->entries[nonces->count - 1];
    }
    struct tws_nonce_entry *entry = &nonces->entries[nonces->oldest];
    nonces->oldest = (nonces->oldest + 1) % TWS_NONCES_MAX;
    *find(nonces, entry->id) = entry->next;
    uint64_t made = tws_load_be64(entry->id);
    if (made >= nonces->stale_before) {
        nonces->stale_before = made + 1;
    }
    return entry;
}

static void
remember(struct tws_nonces *nonces, const uint8_t id[TWS_NONCE_ID],
         uint32_t count)
{
    struct tws_nonce_entry *entry = take_entry(nonces);
    memcpy(entry->id, id, TWS_NONCE_ID);
    entry->highest = count;
    entry->used = 1;
    /* Taking it may have changed the chain: to the front of that. */
    uint16_t *link = chain_of(nonces, id);
    entry->next = *link;
    *link = (uint16_t)(entry - nonces->entries + 1);
}

/* False where the count was used, or is too far behind to tell. */
static bool
use_count(struct tws_nonce_entry *entry, uint32_t count)
{
    if (count > entry->highest) {
        uint32_t ahead = count - entry->highest;
        entry->used = ahead < WINDOW ? entry->used << ahead : 0;
        entry->used |= 1;
        entry->highest = count;
        return true;
    }
    uint32_t behind = entry->highest - count;
    uint64_t bit = (uint64_t)1 << (behind % WINDOW);
    if (behind >= WINDOW || (entry->used & bit) != 0) {
        return false;
    }
    entry->used |= bit;
    return true;
}

enum tws_status
tws_nonces_use(struct tws_nonces *nonces, struct tws_span nonce,
               uint32_t count, uint64_t now, enum tws_nonce_state *state,
               struct tws_error *err)
{
    uint8_t bytes[NONCE_SIZE];
    uint8_t mac[MAC_SIZE];
    *state = TWS_NONCE_FOREIGN;
    if (!decode(nonce, bytes)) {
        return TWS_OK;
    }
    enum tws_status status = authenticate(nonces, bytes, mac, err);
    if (status != TWS_OK) {
        return status;
    }
    struct tws_span own = {.data = (const char *)mac, .length = MAC_SIZE};
    struct tws_span got = {.data = (const char *)bytes + TWS_NONCE_ID,
                           .length = MAC_SIZE};
    if (!tws_equal_constant_time(own, got)) {
        return TWS_OK;
    }
    uint64_t made = tws_load_be64(bytes);
    uint64_t clock = now / MILLISECOND;
    if (clock < made || clock - made > nonces->lifetime) {
        *state = TWS_NONCE_STALE;
        return TWS_OK;
    }
    uint16_t number = *find(nonces, bytes);
    if (number != 0) {
        *state = use_count(&nonces->entries[number - 1], count)
                     ? TWS_NONCE_GOOD
                     : TWS_NONCE_USED;
        return TWS_OK;
    }
    if (made < nonces->stale_before) {
        *state = TWS_NONCE_STALE;
        return TWS_OK;
    }
    remember(nonces, bytes, count);
    *state = TWS_NONCE_GOOD;
    return TWS_OK;
}
