/* Contexts without a history, which connections borrow for the time of one
 * message: between two they need none, at most what was said last. Any thread,
 * without a lock, so that a child of a fork can go on, too. */
#ifndef TWS_PROTOCOL_DEFLATE_POOL_H
#define TWS_PROTOCOL_DEFLATE_POOL_H

#include "protocol/deflate.h"

struct tws_deflate_pool;

/* With one reference; NULL where there is no memory. */
struct tws_deflate_pool *tws_deflate_pool_new(void);
struct tws_deflate_pool *
tws_deflate_pool_retain(struct tws_deflate_pool *pool);
void tws_deflate_pool_release(struct tws_deflate_pool *pool); /* or NULL */

/* Around the time in which somebody borrows. With the last one that leaves go
 * the contexts that are idle: a template may be kept for long. */
void tws_deflate_pool_enter(struct tws_deflate_pool *pool);
void tws_deflate_pool_leave(struct tws_deflate_pool *pool);

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

/* A context that is borrowed again and again must be taught what was said last
 * each time. Of few connections each can keep its own, which then lies in the
 * processor's cache; those of many would not. So one may keep what it has
 * borrowed where its last message is not many messages of all others ago, and
 * as long as not too many do. */
enum tws_direction { TWS_OUT, TWS_IN };
enum { TWS_KEPT_MAX = 64 }; /* of each direction, and pool */

/* Of one direction of a connection; whose thread alone touches it. */
struct tws_tenure {
    uint32_t last; /* what number its last message had */
    uint32_t seen; /* the same, when somebody looked */
    bool begun;    /* there was one */
    bool held;     /* it is one of TWS_KEPT_MAX */
};

/* A message ends. True: its context may be kept for the next one; false: it
 * is to be given back. */
bool tws_tenure_extend(struct tws_tenure *tenure,
                       struct tws_deflate_pool *pool,
                       enum tws_direction direction);
/* The context was given back. */
void tws_tenure_end(struct tws_tenure *tenure, struct tws_deflate_pool *pool,
                    enum tws_direction direction);
/* Whether no message has ended since this was last asked. */
bool tws_tenure_is_idle(struct tws_tenure *tenure);

#endif /* TWS_PROTOCOL_DEFLATE_POOL_H */
