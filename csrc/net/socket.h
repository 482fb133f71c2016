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

/* Waits until the descriptor is ready for one of `events` (hang-ups count)
 * or `timeout_ns` is over (UINT64_MAX: no limit). TWS_OK: ready, *ready says
 * for what. TWS_AGAIN: the time is over or a signal came. */
enum tws_status tws_socket_wait(int fd, unsigned events, uint64_t timeout_ns,
                                unsigned *ready, struct tws_error *err);

/* Milliseconds for poll(): rounded up, -1 for UINT64_MAX. */
int tws_poll_timeout(uint64_t timeout_ns);

#endif /* TWS_NET_SOCKET_H */
