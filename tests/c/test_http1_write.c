#include "harness.h"
#include "protocol/http1.h"

static struct tws_span
text(const char *data)
{
    return (struct tws_span){.data = data, .length = strlen(data)};
}

TEST(written_head_is_what_was_asked_for)
{
    struct tws_buffer out = TWS_BUFFER_EMPTY;
    struct tws_error err;
    CHECK_INT(
        tws_http_write_request_line(&out, text("GET"), text("/a?b"), &err),
        TWS_OK);
    CHECK_INT(tws_http_write_field(&out, text("Host"), text("a"), &err),
              TWS_OK);
    CHECK_INT(tws_http_write_field(&out, text("X"), text(""), &err), TWS_OK);
    CHECK_INT(tws_http_write_end(&out, &err), TWS_OK);
    CHECK_BYTES(tws_buffer_data(&out), tws_buffer_length(&out),
                "GET /a?b HTTP/1.1\r\nHost: a\r\nX: \r\n\r\n");
    tws_buffer_consume(&out, tws_buffer_length(&out));
    CHECK_INT(tws_http_write_status_line(&out, 426, &err), TWS_OK);
    CHECK_INT(tws_http_write_status_line(&out, 299, &err), TWS_OK);
    CHECK_BYTES(tws_buffer_data(&out), tws_buffer_length(&out),
                "HTTP/1.1 426 Upgrade Required\r\nHTTP/1.1 299 Unknown\r\n");
    tws_buffer_release(&out);
}

TEST(head_injection_by_the_writers_is_refused)
{
    struct tws_buffer out = TWS_BUFFER_EMPTY;
    struct tws_error err = {.http_status = 1};
    CHECK_INT(tws_http_write_request_line(&out, text("GET"),
                                          text("/ HTTP/1.1\r\nX: y"), &err),
              TWS_REFUSED);
    CHECK_INT(err.http_status, 0);
    CHECK_INT(
        tws_http_write_request_line(&out, text("GET"), text("/a b"), &err),
        TWS_REFUSED);
    CHECK_INT(tws_http_write_request_line(&out, text("GET"), text(""), &err),
              TWS_REFUSED);
    CHECK_INT(tws_http_write_request_line(&out, text("GE T"), text("/"), &err),
              TWS_REFUSED);
    CHECK_INT(tws_http_write_field(&out, text("X"), text("a\r\nB: c"), &err),
              TWS_REFUSED);
    CHECK_INT(tws_http_write_field(&out, text("X"), text("a\n"), &err),
              TWS_REFUSED);
    CHECK_INT(tws_http_write_field(&out, text("X"), TWS_SPAN("a\0b"), &err),
              TWS_REFUSED);
    CHECK_INT(tws_http_write_field(&out, text("X"), text("\x1b[2J"), &err),
              TWS_REFUSED);
    CHECK_INT(tws_http_write_field(&out, text("X: y\r\nZ"), text("a"), &err),
              TWS_REFUSED);
    CHECK_INT(tws_http_write_field(&out, text(""), text("a"), &err),
              TWS_REFUSED);
    CHECK_INT(tws_http_write_status_line(&out, 99, &err), TWS_REFUSED);
    CHECK_INT(tws_http_write_status_line(&out, 600, &err), TWS_REFUSED);
    CHECK_INT(tws_buffer_length(&out), 0);
    tws_buffer_release(&out);
}

TEST(writer_without_memory_is_nomem)
{
    /* A buffer that can't grow: no length is left to count with. */
    struct tws_buffer full = {.end = SIZE_MAX / 2, .capacity = SIZE_MAX / 2};
    struct tws_error err = {0};
    CHECK_INT(tws_http_write_field(&full, text("X"), text("a"), &err),
              TWS_NOMEM);
    CHECK_INT(err.status, TWS_NOMEM);
    CHECK_INT(tws_http_write_end(&full, &err), TWS_NOMEM);
    CHECK_INT(full.end, SIZE_MAX / 2);
}

RUN(T(written_head_is_what_was_asked_for),
    T(head_injection_by_the_writers_is_refused),
    T(writer_without_memory_is_nomem))
