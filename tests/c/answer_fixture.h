/* The other end of a client's handshake: what a server answers. */
#ifndef TWS_TESTS_ANSWER_FIXTURE_H
#define TWS_TESTS_ANSWER_FIXTURE_H

#include "protocol/digest.h"
#include "protocol/handshake_client.h"

#include "harness.h"

static const struct tws_http_limits limits = {.head_bytes = 1024,
                                              .field_count = 16};

static inline struct tws_handshake_offer
plain_offer(void)
{
    return (struct tws_handshake_offer){.target = TWS_SPAN("/chat"),
                                        .host = TWS_SPAN("example.com")};
}

/* A good 101 for what was asked, with more fields, and then `behind`. Returns
 * its length. */
static inline size_t
write_welcome(char *answer, size_t size, const char *request,
              const char *fields, const char *behind)
{
    char accept[TWS_ACCEPT_LENGTH];
    struct tws_error err;
    const char *key = strstr(request, "Sec-WebSocket-Key: ");
    CHECK(key != NULL);
    if (key == NULL) {
        return 0;
    }
    CHECK_INT(tws_accept_key((struct tws_span){.data = key + 19,
                                               .length = TWS_KEY_LENGTH},
                             accept, &err),
              TWS_OK);
    int length = snprintf(answer, size,
                          "HTTP/1.1 101 Switching Protocols\r\n"
                          "Upgrade: websocket\r\nConnection: Upgrade\r\n"
                          "Sec-WebSocket-Accept: %.28s\r\n%s\r\n%s",
                          accept, fields, behind);
    CHECK(length > 0 && (size_t)length < size);
    return (size_t)length;
}

#endif /* TWS_TESTS_ANSWER_FIXTURE_H */
