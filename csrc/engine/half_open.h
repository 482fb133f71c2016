/* How many connections of one address are amid their opening handshake, and
 * which of them is the oldest. IPv6 counts by networks of 64 bits, as one
 * peer has as many addresses in it as it likes. */
#ifndef TWS_ENGINE_HALF_OPEN_H
#define TWS_ENGINE_HALF_OPEN_H

#include "net/socket.h"

/* A key is 4 or 6, for the family, and the address or network. */
enum { TWS_HALF_OPEN_KEY = 1 + 8, TWS_HALF_OPEN_BUCKETS = 1024 };

/* Part of whatever is counted. A zeroed struct is not counted. */
struct tws_half_open_entry {
    struct tws_half_open_entry *next;  /* in its bucket, the newest first */
    struct tws_half_open_entry **link; /* what points here; NULL: not in */
    uint8_t key[TWS_HALF_OPEN_KEY];
};

/* A zeroed struct has no limit and counts nothing. */
struct tws_half_open {
    uint32_t limit; /* for one address; 0: none */
    uint32_t seed;
    struct tws_half_open_entry **buckets; /* owned */
};

/* `seed` is unknown to peers, which could else pile up in one bucket. */
enum tws_status tws_half_open_init(struct tws_half_open *half_open,
                                   uint32_t limit, uint32_t seed,
                                   struct tws_error *err);
void tws_half_open_release(struct tws_half_open *half_open);

/* Counts one more of that address. Where that is more than the limit, the
 * oldest of them is taken out and returned; else NULL. Addresses of other
 * families than IP are not counted. */
struct tws_half_open_entry *
tws_half_open_add(struct tws_half_open *half_open,
                  struct tws_half_open_entry *entry,
                  const struct tws_address *address);
/* Nothing happens where it is not counted. */
void tws_half_open_remove(struct tws_half_open_entry *entry);

#endif /* TWS_ENGINE_HALF_OPEN_H */
