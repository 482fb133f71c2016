/* Descriptors of stream sockets: accepting, connecting, waiting. Everything
 * made here is non-blocking and closed on exec. */
#ifndef TWS_NET_SOCKET_H
#define TWS_NET_SOCKET_H

#include "net/transport.h"

#include <sys/socket.h>
#include <sys/types.h>

struct tws_address {
    socklen_t length;
    pid_t pid; /* the process, where a Unix peer has no name; 0: unknown */
    struct sockaddr_storage storage;
};

/* TWS_OK with *fd (owned by the caller) and *peer, TWS_AGAIN, or TWS_OS.
 * Connections that died in the queue are passed over. TCP_NODELAY is set on
 * what is a TCP socket. Other options come from the listener: on Linux a
 * connection has those that it had when the connection was made. */
enum tws_status tws_socket_accept(int listener, int *fd,
                                  struct tws_address *peer,
                                  struct tws_error *err);

/* A new stream socket, owned by the caller, with TCP_NODELAY where it is not
 * a Unix socket. */
enum tws_status tws_socket_open(int family, int protocol, int *fd,
                                struct tws_error *err);

/* Makes an existing descriptor non-blocking; sets TCP_NODELAY on what is not
 * a Unix socket. */
enum tws_status tws_socket_prepare(int fd, struct tws_error *err);

/* The process at the other end of a Unix socket when they were connected; 0
 * where the system does not tell. */
pid_t tws_socket_peer_pid(int fd);

/* Begins or goes on with connecting. TWS_OK: connected; TWS_AGAIN: wait until
 * the descriptor is writable and call tws_socket_connected(). */
enum tws_status tws_socket_connect(int fd, const struct tws_address *address,
                                   struct tws_error *err);
enum tws_status tws_socket_connected(int fd, struct tws_error *err);

/* A descriptor (-1: none), what it is waited for, and what it is ready for
 * (of TWS_WAIT_*; hang-ups count). */
struct tws_wait {
    int fd;
    unsigned events;
    unsigned ready;
};

enum { TWS_WAITS_MAX = 16 }; /* descriptors at a time */

/* Waits until one of them is ready or `timeout_ns` is over (UINT64_MAX: no
 * limit). TWS_OK with `ready` set in each; TWS_AGAIN: the time is over or a
 * signal came; TWS_OS. */
enum tws_status tws_socket_wait_any(struct tws_wait *waits, size_t count,
                                    uint64_t timeout_ns,
                                    struct tws_error *err);
/* The same for one; *ready as above. */
enum tws_status tws_socket_wait(int fd, unsigned events, uint64_t timeout_ns,
                                unsigned *ready, struct tws_error *err);

/* The host for people: "127.0.0.1", "fe80::1%2"; of a Unix socket its path,
 * "@name" in the abstract name space. Cut where it does not fit. */
enum { TWS_HOST_TEXT = 120 };
void tws_socket_host(const struct tws_address *address,
                     char text[TWS_HOST_TEXT]);

/* Milliseconds for poll(): rounded up, -1 for UINT64_MAX. */
int tws_poll_timeout(uint64_t timeout_ns);

#endif /* TWS_NET_SOCKET_H */
