#include "python/auth_nonces.h"

#include "python/errors.h"
#include "loop/timers.h"
#include "net/random.h"

#include <errno.h>
#include <pthread.h>
#include <sys/mman.h>

/* In memory that forked processes share; never moved, and nobody knows which
 * of them is the last. */
struct tws_auth_nonces {
    uint64_t began;       /* of the monotonic clock, which is the same for all:
                           * a nonce tells nobody since when the machine runs */
    pthread_mutex_t lock; /* of `nonces`, but for the secret */
    struct tws_nonces nonces;
};

/* Robust: a worker that is killed while it has the lock must not stop the
 * others for ever. */
static int
init_lock(pthread_mutex_t *lock)
{
    pthread_mutexattr_t attributes;
    int failed = pthread_mutexattr_init(&attributes);
    if (failed != 0) {
        return failed;
    }
    failed = pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    if (failed == 0) {
        failed =
            pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    }
    if (failed == 0) {
        failed = pthread_mutex_init(lock, &attributes);
    }
    (void)pthread_mutexattr_destroy(&attributes);
    return failed;
}

struct tws_auth_nonces *
tws_auth_nonces_new(struct tws_state *state, uint64_t lifetime_ns)
{
    uint8_t secret[TWS_NONCE_SECRET];
    struct tws_error err;
    if (tws_random_bytes(secret, sizeof(secret), &err) != TWS_OK) {
        (void)tws_raise(state, &err);
        return NULL;
    }
    struct tws_auth_nonces *made =
        mmap(NULL, sizeof(*made), PROT_READ | PROT_WRITE,
             MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (made == MAP_FAILED) {
        PyErr_SetFromErrno(PyExc_OSError);
        return NULL;
    }
    int failed = init_lock(&made->lock);
    if (failed != 0) {
        (void)munmap(made, sizeof(*made));
        errno = failed;
        PyErr_SetFromErrno(PyExc_OSError);
        return NULL;
    }
    made->began = tws_clock_now();
    tws_nonces_init(&made->nonces, secret, lifetime_ns);
    return made;
}

void
tws_auth_nonces_free(struct tws_auth_nonces *nonces)
{
    if (nonces != NULL) {
        /* The lock is not destroyed, as others may still use it. */
        (void)munmap(nonces, sizeof(*nonces));
    }
}

int
tws_auth_nonces_make(struct tws_state *state,
                     const struct tws_auth_nonces *nonces,
                     char out[TWS_NONCE_LENGTH])
{
    uint8_t random[TWS_NONCE_RANDOM];
    struct tws_error err;
    if (tws_random_bytes(random, sizeof(random), &err) != TWS_OK
        || tws_nonces_make(&nonces->nonces, tws_clock_now() - nonces->began,
                           random, out, &err)
               != TWS_OK) {
        (void)tws_raise(state, &err);
        return -1;
    }
    return 0;
}

int
tws_auth_nonces_use(struct tws_state *state, struct tws_auth_nonces *nonces,
                    struct tws_span nonce, uint32_t count,
                    enum tws_nonce_state *found)
{
    struct tws_error err;
    /* The GIL is kept: whoever has the lock computes for a microsecond, and
     * never waits. */
    int failed = pthread_mutex_lock(&nonces->lock);
    uint64_t now = tws_clock_now() - nonces->began;
    if (failed == EOWNERDEAD) {
        /* A process has died amid a change. */
        tws_nonces_forget(&nonces->nonces, now);
        failed = pthread_mutex_consistent(&nonces->lock);
    }
    if (failed != 0) {
        errno = failed;
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    enum tws_status status =
        tws_nonces_use(&nonces->nonces, nonce, count, now, found, &err);
    (void)pthread_mutex_unlock(&nonces->lock);
    if (status != TWS_OK) {
        (void)tws_raise(state, &err);
        return -1;
    }
    return 0;
}
