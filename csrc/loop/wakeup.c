#include "loop/wakeup.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#ifdef __linux__
#include <sys/eventfd.h>
#endif

/* A lock would hang a signal handler that interrupts its holder. */
_Static_assert(ATOMIC_BOOL_LOCK_FREE == 2, "atomic_bool needs a lock");

/* Returns -1 with errno set; ENOSYS where the system has none. */
static int
open_eventfd(void)
{
#ifdef __linux__
    return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
#else
    errno = ENOSYS;
    return -1;
#endif
}

static int
set_flags(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) {
        return -1;
    }
    return fcntl(fd, F_SETFD, FD_CLOEXEC);
}

enum tws_status
tws_wakeup_init(struct tws_wakeup *wakeup, struct tws_error *err)
{
    int ends[2];
    int fd = open_eventfd();
    int saved = errno;
    if (fd >= 0) {
        ends[0] = fd;
        ends[1] = fd;
    }
    else if (saved != ENOSYS) {
        return tws_error_os(err, saved, "eventfd");
    }
    else {
        if (pipe(ends) < 0) {
            saved = errno;
            return tws_error_os(err, saved, "pipe");
        }
        if (set_flags(ends[0]) < 0 || set_flags(ends[1]) < 0) {
            saved = errno;
            (void)close(ends[0]);
            (void)close(ends[1]);
            return tws_error_os(err, saved, "fcntl");
        }
    }
    wakeup->read_fd = ends[0];
    wakeup->write_fd = ends[1];
    atomic_init(&wakeup->pending, false);
    return TWS_OK;
}

void
tws_wakeup_fini(struct tws_wakeup *wakeup)
{
    (void)close(wakeup->read_fd);
    if (wakeup->write_fd != wakeup->read_fd) {
        (void)close(wakeup->write_fd);
    }
}

void
tws_wakeup_notify(struct tws_wakeup *wakeup)
{
    if (atomic_exchange_explicit(&wakeup->pending, true,
                                 memory_order_acq_rel)) {
        return; /* the one that set it writes, or has written */
    }
    int saved = errno;
    uint64_t one = 1;
    ssize_t written;
    do {
        written = write(wakeup->write_fd, &one, sizeof(one));
    } while (written < 0 && errno == EINTR);
    if (written < 0) {
        /* Let the next one try again. */
        atomic_store_explicit(&wakeup->pending, false, memory_order_release);
    }
    errno = saved;
}

void
tws_wakeup_drain(struct tws_wakeup *wakeup)
{
    uint64_t value;
    ssize_t got;
    do {
        got = read(wakeup->read_fd, &value, sizeof(value));
    } while (got < 0 && errno == EINTR);
    if (got < 0) {
        return; /* nothing to take: the writer is still about to write */
    }
    /* Only after the read: a notification in between then writes nothing and
     * is part of this one. The other way round it could be read with
     * `pending` left set, and nobody would ever write again. */
    (void)atomic_exchange_explicit(&wakeup->pending, false,
                                   memory_order_acq_rel);
}
