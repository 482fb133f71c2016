#include "protocol/status.h"

#include "harness.h"

#include <errno.h>

/* Stale contents, so that a field that is not written shows. */
static struct tws_error
stale_error(void)
{
    struct tws_error err;
    memset(&err, 0x5a, sizeof(err));
    return err;
}

TEST(protocol_error_fills_every_field)
{
    struct tws_error err = stale_error();
    CHECK_INT(tws_error_protocol(&err, 1002, "got %d, expected %s", 7, "8"),
              TWS_PROTOCOL);
    CHECK_INT(err.status, TWS_PROTOCOL);
    CHECK_INT(err.close_code, 1002);
    CHECK_INT(err.http_status, 0);
    CHECK_INT(err.sys_errno, 0);
    CHECK_BYTES(err.reason, strlen(err.reason), "got 7, expected 8");
}

TEST(refused_error_fills_every_field)
{
    struct tws_error err = stale_error();
    CHECK_INT(tws_error_refused(&err, 426, "version %s", "12"), TWS_REFUSED);
    CHECK_INT(err.status, TWS_REFUSED);
    CHECK_INT(err.close_code, 0);
    CHECK_INT(err.http_status, 426);
    CHECK_INT(err.sys_errno, 0);
    CHECK_BYTES(err.reason, strlen(err.reason), "version 12");
}

TEST(tls_error_fills_every_field)
{
    struct tws_error err = stale_error();
    CHECK_INT(tws_error_tls(&err, "no %s", "certificate"), TWS_TLS);
    CHECK_INT(err.status, TWS_TLS);
    CHECK_INT(err.close_code, 0);
    CHECK_INT(err.http_status, 0);
    CHECK_INT(err.sys_errno, 0);
    CHECK_BYTES(err.reason, strlen(err.reason), "no certificate");
}

TEST(os_error_fills_every_field)
{
    struct tws_error err = stale_error();
    CHECK_INT(tws_error_os(&err, ECONNRESET, "recv"), TWS_OS);
    CHECK_INT(err.status, TWS_OS);
    CHECK_INT(err.close_code, 0);
    CHECK_INT(err.http_status, 0);
    CHECK_INT(err.sys_errno, ECONNRESET);
    CHECK_BYTES(err.reason, strlen(err.reason), "recv");
}

TEST(errnos_have_words)
{
    char room[TWS_ERRNO_TEXT];
    const char *text = tws_errno_text(ECONNREFUSED, room);
    CHECK_BYTES(text, strlen(text), "Connection refused");
    text = tws_errno_text(123456, room); /* unknown: made in the room */
    CHECK(text == room);
    CHECK(strstr(text, "123456") != NULL);
}

TEST(nomem_error_fills_every_field)
{
    struct tws_error err = stale_error();
    CHECK_INT(tws_error_nomem(&err), TWS_NOMEM);
    CHECK_INT(err.status, TWS_NOMEM);
    CHECK_INT(err.close_code, 0);
    CHECK_INT(err.http_status, 0);
    CHECK_INT(err.sys_errno, 0);
    CHECK_BYTES(err.reason, strlen(err.reason), "out of memory");
}

TEST(a_long_reason_is_cut)
{
    char text[1000];
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    struct tws_error err = stale_error();
    tws_error_protocol(&err, 1002, "%s", text);
    CHECK_INT(strlen(err.reason), sizeof(err.reason) - 1);
    err = stale_error();
    tws_error_refused(&err, 400, "%s", text);
    CHECK_INT(strlen(err.reason), sizeof(err.reason) - 1);
    err = stale_error();
    tws_error_os(&err, EIO, text);
    CHECK_INT(strlen(err.reason), sizeof(err.reason) - 1);
    CHECK_INT(err.sys_errno, EIO);
}

TEST(the_longest_reason_that_fits_is_kept)
{
    struct tws_error err = stale_error();
    char text[sizeof(err.reason)];
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    tws_error_protocol(&err, 1002, "%s", text);
    CHECK(strcmp(err.reason, text) == 0);
}

/* Every byte but NUL: only printable ASCII may pass. */
TEST(other_bytes_become_question_marks)
{
    for (int byte = 1; byte < 256; byte++) {
        char text[2] = {(char)byte, '\0'};
        int expected = byte >= 0x20 && byte <= 0x7e ? byte : '?';
        struct tws_error err = stale_error();
        tws_error_protocol(&err, 1002, "<%s>", text);
        CHECK_INT(err.reason[1], expected);
        CHECK_INT(strlen(err.reason), 3);
        err = stale_error();
        tws_error_refused(&err, 400, "<%s>", text);
        CHECK_INT(err.reason[1], expected);
        err = stale_error();
        tws_error_os(&err, EIO, text);
        CHECK_INT(err.reason[0], expected);
    }
}

TEST(an_empty_reason_is_possible)
{
    struct tws_error err = stale_error();
    tws_error_protocol(&err, 1002, "%s", "");
    CHECK_INT(strlen(err.reason), 0);
}

RUN(T(protocol_error_fills_every_field), T(refused_error_fills_every_field),
    T(tls_error_fills_every_field), T(os_error_fills_every_field),
    T(errnos_have_words), T(nomem_error_fills_every_field),
    T(a_long_reason_is_cut), T(the_longest_reason_that_fits_is_kept),
    T(other_bytes_become_question_marks), T(an_empty_reason_is_possible))
