#include "net/progress.h"

#ifdef __linux__

/* Not <netinet/tcp.h>, whose struct tcp_info ends before what is wanted. */
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stddef.h>
#include <sys/socket.h>

bool
tws_progress_read(int fd, struct tws_progress *progress)
{
    struct tcp_info info = {.tcpi_state = 0};
    socklen_t size = sizeof(info);
    *progress = (struct tws_progress){.acknowledged = 0};
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) < 0
        || size < offsetof(struct tcp_info, tcpi_min_rtt)) {
        return false; /* not TCP, or a kernel before 4.6 */
    }
    progress->acknowledged = info.tcpi_bytes_acked;
    progress->outstanding =
        info.tcpi_unacked > 0 || info.tcpi_notsent_bytes > 0;
    return true;
}

#else

bool
tws_progress_read(int fd, struct tws_progress *progress)
{
    (void)fd;
    *progress = (struct tws_progress){.acknowledged = 0};
    return false;
}

#endif
