#include "protocol/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* A reason may quote the peer: no control byte may reach a terminal or split
 * a line of a log. */
static void
make_printable(char *text)
{
    for (char *p = text; *p != '\0'; p++) {
        if (*p < 0x20 || *p > 0x7e) {
            *p = '?';
        }
    }
}

static void
fill(struct tws_error *err, enum tws_status status, const char *format,
     va_list args)
{
    *err = (struct tws_error){.status = status};
    (void)vsnprintf(err->reason, sizeof(err->reason), format, args);
    make_printable(err->reason);
}

enum tws_status
tws_error_protocol(struct tws_error *err, uint16_t close_code,
                   const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fill(err, TWS_PROTOCOL, format, args);
    va_end(args);
    err->close_code = close_code;
    return TWS_PROTOCOL;
}

enum tws_status
tws_error_refused(struct tws_error *err, uint16_t http_status,
                  const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fill(err, TWS_REFUSED, format, args);
    va_end(args);
    err->http_status = http_status;
    return TWS_REFUSED;
}

enum tws_status
tws_error_os(struct tws_error *err, int sys_errno, const char *what)
{
    *err = (struct tws_error){.status = TWS_OS, .sys_errno = sys_errno};
    (void)snprintf(err->reason, sizeof(err->reason), "%s", what);
    make_printable(err->reason);
    return TWS_OS;
}

const char *
tws_errno_text(int sys_errno, char room[TWS_ERRNO_TEXT])
{
#ifdef __GLIBC__
    return strerror_r(sys_errno, room, TWS_ERRNO_TEXT);
#else
    if (strerror_r(sys_errno, room, TWS_ERRNO_TEXT) != 0) {
        (void)snprintf(room, TWS_ERRNO_TEXT, "errno %d", sys_errno);
    }
    return room;
#endif
}

enum tws_status
tws_error_tls(struct tws_error *err, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fill(err, TWS_TLS, format, args);
    va_end(args);
    return TWS_TLS;
}

enum tws_status
tws_error_nomem(struct tws_error *err)
{
    *err = (struct tws_error){.status = TWS_NOMEM};
    (void)snprintf(err->reason, sizeof(err->reason), "out of memory");
    return TWS_NOMEM;
}
