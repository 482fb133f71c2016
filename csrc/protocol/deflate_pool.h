/* Contexts without a history, which connections borrow for the time of one
 * message: where nothing is kept from one message to the next they need none
 * of their own. Any thread, without a lock, so that a child of a fork can go
 * on, too. */
#ifndef TWS_PROTOCOL_DEFLATE_POOL_H
#define TWS_PROTOCOL_DEFLATE_POOL_H

#include "protocol/deflate.h"

struct tws_deflate_pool;

/* With one reference; NULL where there is no memory. */
struct tws_deflate_pool *tws_deflate_pool_new(void);
struct tws_deflate_pool *
tws_deflate_pool_retain(struct tws_deflate_pool *pool);
void tws_deflate_pool_release(struct tws_deflate_pool *pool); /* or NULL */

/* One that is idle, or a new one; NULL where there is no memory. */
struct tws_deflater *
tws_deflate_pool_take_deflater(struct tws_deflate_pool *pool,
                               const struct tws_deflate_settings *settings);
struct tws_inflater *
tws_deflate_pool_take_inflater(struct tws_deflate_pool *pool,
                               unsigned window_bits);
/* Gives back what was taken, in whatever state; or NULL. */
void tws_deflate_pool_give_deflater(struct tws_deflate_pool *pool,
                                    struct tws_deflater *deflater);
void tws_deflate_pool_give_inflater(struct tws_deflate_pool *pool,
                                    struct tws_inflater *inflater);

#endif /* TWS_PROTOCOL_DEFLATE_POOL_H */
