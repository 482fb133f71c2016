/* Random bytes from the kernel's cryptographic source, and a pool of masking
 * keys: RFC 6455 §5.3 wants each frame's key unpredictable. */
#ifndef TWS_NET_RANDOM_H
#define TWS_NET_RANDOM_H

#include "protocol/status.h"

/* Fills `out` from getrandom(). TWS_OS where the system has no source. */
enum tws_status tws_random_bytes(void *out, size_t length,
                                 struct tws_error *err);

/* Keys are drawn from a block that is refilled by one getrandom() for many
 * frames. Used keys are wiped. A child made by fork() never uses what its
 * parent had drawn: the kernel wipes the block at the fork, or, where it
 * can't, nothing is drawn ahead. Thread-safe. */
struct tws_mask_pool;

/* NULL where there is no memory. */
struct tws_mask_pool *tws_mask_pool_new(void);
void tws_mask_pool_free(struct tws_mask_pool *pool); /* NULL is allowed */

/* Draws one key. */
enum tws_status tws_mask_pool_take(struct tws_mask_pool *pool, uint8_t key[4],
                                   struct tws_error *err);

#endif /* TWS_NET_RANDOM_H */
