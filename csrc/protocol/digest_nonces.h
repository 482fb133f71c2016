/* The nonces of a server that authenticates by Digest (RFC 7616 §3.3, §5.4):
 * which are its own and fresh, and which of their counts were used.
 *
 * A nonce says when it was made and carries a MAC over that, so that nothing
 * is remembered of the many that are handed out. Remembered are those that
 * came back with the right password, with a window of their counts; where
 * there are more than TWS_NONCES_MAX the oldest is forgotten, and with it
 * goes the right to use any nonce as old as that one.
 *
 * Time and random bytes come from the caller. The struct holds no pointers and
 * may lie in memory that processes share. Not thread-safe: the owner locks it
 * around tws_nonces_use(). */
#ifndef TWS_PROTOCOL_DIGEST_NONCES_H
#define TWS_PROTOCOL_DIGEST_NONCES_H

#include "protocol/status.h"

enum {
    TWS_NONCE_LENGTH = 64, /* in hexadecimal */
    TWS_NONCE_RANDOM = 8,  /* bytes that make one */
    TWS_NONCE_SECRET = 32,
    TWS_NONCE_ID = 16, /* bytes of time and random part */
    TWS_NONCES_MAX = 4096,
    TWS_NONCES_CHAINS = 4096, /* a power of two */
};

struct tws_nonce_entry {
    uint8_t id[TWS_NONCE_ID];
    uint64_t used;    /* bit i: count `highest` - i was used */
    uint32_t highest; /* count so far */
    uint16_t next;    /* in its chain: its index + 1; 0: the last */
};

struct tws_nonces {
    uint8_t secret[TWS_NONCE_SECRET];
    uint64_t lifetime;     /* milliseconds */
    uint64_t stale_before; /* milliseconds; what was made before that, and is
                            * not remembered, may have been forgotten */
    uint32_t count;        /* of the entries that are in use */
    uint32_t oldest;       /* where the next one goes once all are */
    uint16_t chains[TWS_NONCES_CHAINS]; /* by id: index + 1 of the first */
    struct tws_nonce_entry entries[TWS_NONCES_MAX];
};

enum tws_nonce_state {
    TWS_NONCE_GOOD,
    TWS_NONCE_STALE,   /* ours, but too old, or forgotten */
    TWS_NONCE_USED,    /* this count was used before: a replay */
    TWS_NONCE_FOREIGN, /* not made with this secret */
};

/* `secret` is random, and copied. `lifetime_ns` at least a millisecond. */
void tws_nonces_init(struct tws_nonces *nonces,
                     const uint8_t secret[TWS_NONCE_SECRET],
                     uint64_t lifetime_ns);

/* Makes a nonce; no NUL. `now` is nanoseconds of a clock that never goes back,
 * the same for all calls. Reads the secret only, so needs no lock. TWS_NOMEM
 * where libcrypto can't compute. */
enum tws_status tws_nonces_make(const struct tws_nonces *nonces, uint64_t now,
                                const uint8_t random[TWS_NONCE_RANDOM],
                                char out[TWS_NONCE_LENGTH],
                                struct tws_error *err);

/* To be called once it is known that the credentials are right: what is
 * wrong must not use up counts or room. TWS_OK with *state; where that is GOOD
 * the count is used from now on. `count` is at least 1; a client may skip
 * some, and be up to 63 behind. TWS_NOMEM. */
enum tws_status tws_nonces_use(struct tws_nonces *nonces,
                               struct tws_span nonce, uint32_t count,
                               uint64_t now, enum tws_nonce_state *state,
                               struct tws_error *err);

/* Forgets all: every nonce made up to `now` is stale. For an owner that found
 * the struct half changed, by a process that died. */
void tws_nonces_forget(struct tws_nonces *nonces, uint64_t now);

#endif /* TWS_PROTOCOL_DIGEST_NONCES_H */
