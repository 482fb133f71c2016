/* How the core reports an outcome: a status is the return value, results go
 * out by pointer and are untouched on failure. TWS_AGAIN and TWS_EOF are
 * statuses, not errors: they leave `struct tws_error` alone. */
#ifndef TWS_PROTOCOL_STATUS_H
#define TWS_PROTOCOL_STATUS_H

#include "protocol/base.h"

enum tws_status {
    TWS_OK = 0,
    TWS_AGAIN,    /* needs more bytes, or the descriptor is not ready */
    TWS_EOF,      /* the peer ended the stream */
    TWS_PROTOCOL, /* the peer broke the protocol; see close_code */
    TWS_REFUSED,  /* the opening handshake was refused; see http_status */
    TWS_NOMEM,    /* an allocation failed */
    TWS_OS,       /* a system call failed; see sys_errno */
    TWS_TLS,      /* encryption failed: a certificate, the handshake, or what
                   * the peer sent */
};

/* Where a failure is found, it is described here once; callers pass it up
 * unchanged. Lives on the caller's stack. */
struct tws_error {
    enum tws_status status;
    uint16_t close_code;  /* RFC 6455 §7.4.1 code to close with, or 0 */
    uint16_t http_status; /* answer of a refused handshake, or 0 */
    int sys_errno;        /* errno of TWS_OS, else 0 */
    char reason[160];     /* what was got and what was expected; NUL-ended */
};

/* Fills *err (all fields; reason by format, cut where it does not fit) and
 * returns `status`, so that a caller can `return tws_error_...(...)`.
 * Bytes outside printable ASCII in the formatted text become '?', as the
 * reason may quote a peer and end in a log. */
enum tws_status tws_error_protocol(struct tws_error *err, uint16_t close_code,
                                   const char *format, ...) TWS_PRINTF(3, 4);
enum tws_status tws_error_refused(struct tws_error *err, uint16_t http_status,
                                  const char *format, ...) TWS_PRINTF(3, 4);
/* `sys_errno` is the saved errno; `what` names the call that failed. */
enum tws_status tws_error_os(struct tws_error *err, int sys_errno,
                             const char *what);
/* What the system calls an errno, as strerror() does, but for any thread: a
 * constant, or what it has put into `room`. */
enum { TWS_ERRNO_TEXT = 128 };
const char *tws_errno_text(int sys_errno, char room[TWS_ERRNO_TEXT]);
enum tws_status tws_error_tls(struct tws_error *err, const char *format, ...)
    TWS_PRINTF(2, 3);
enum tws_status tws_error_nomem(struct tws_error *err);

#endif /* TWS_PROTOCOL_STATUS_H */
