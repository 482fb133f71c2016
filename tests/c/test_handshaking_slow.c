/* Decisions on a handshake that take long: nobody else waits for them, and
 * much may have happened when they are made. */
#include "engine_fixture.h"

enum { REQUEST_LENGTH = sizeof(UPGRADE_REQUEST) - 1 };

static void
refuse(struct fixture *fixture, struct tws_handshake *handshake,
       const struct tws_http_head *head,
       const struct tws_handshake_request *request)
{
    struct tws_error err;
    (void)fixture;
    (void)request;
    bool head_only = tws_span_equal(head->method, TWS_SPAN("HEAD"));
    CHECK_INT(
        tws_handshake_refuse(handshake, 403, "not today", head_only, &err),
        TWS_OK);
}

static void
turn_away(struct fixture *fixture, struct tws_handshake *handshake,
          const struct tws_http_head *head,
          const struct tws_handshake_request *request)
{
    struct tws_error why;
    refuse(fixture, handshake, head, request);
    (void)tws_error_refused(&why, 403, "not today");
    tws_handshake_note_refusal(handshake, &why);
}

static void
ignore(struct fixture *fixture, struct tws_handshake *handshake,
       const struct tws_http_head *head,
       const struct tws_handshake_request *request)
{
    (void)fixture;
    (void)handshake;
    (void)head;
    (void)request;
}

struct slow {
    atomic_bool go;
    atomic_int begun;
    void (*decide)(struct fixture *fixture, struct tws_handshake *handshake,
                   const struct tws_http_head *head,
                   const struct tws_handshake_request *request);
};

static void
accept_it(struct fixture *fixture, struct tws_handshake *handshake,
          const struct tws_http_head *head,
          const struct tws_handshake_request *request)
{
    (void)head;
    CHECK_INT(fixture_accept(fixture, handshake, request), TWS_OK);
}

/* The first request takes long. */
static void
decide_slowly(struct fixture *fixture, struct tws_handshake *handshake,
              const struct tws_http_head *head,
              const struct tws_handshake_request *request)
{
    struct slow *slow = fixture->context;
    if (slow->begun > 0) {
        accept_it(fixture, handshake, head, request);
        return;
    }
    slow->begun++;
    fixture_block(fixture, &slow->go);
    struct tws_span text = tws_handshake_head(handshake, head);
    CHECK_BYTES(text.data, text.length, UPGRADE_REQUEST);
    slow->decide(fixture, handshake, head, request);
}

static void
prepare_slow(struct fixture *fixture, struct way way, struct slow *slow)
{
    *slow = (struct slow){.decide = accept_it};
    fixture_init_pool(fixture, way);
    fixture->context = slow;
    fixture->on_request = decide_slowly;
}

/* One with a frame behind its request, of which the handler is begun. */
static int
start_slow(struct fixture *fixture)
{
    uint8_t bytes[REQUEST_LENGTH + WIRE_HEADER_MAX + 5];
    const struct slow *slow = fixture->context;
    fixture_start(fixture);
    int fd = dial(fixture);
    memcpy(bytes, UPGRADE_REQUEST, REQUEST_LENGTH);
    size_t length = REQUEST_LENGTH;
    length += write_frame(bytes + length, TEXT, "early", 5);
    give(fd, bytes, length);
    EVENTUALLY(slow->begun == 1);
    return fd;
}

EACH_WAY(a_slow_decision_holds_up_nobody_else)
{
    struct slow slow;
    struct fixture fixture;
    prepare_slow(&fixture, way, &slow);
    int fd = start_slow(&fixture);
    put_text(fd, "later");
    for (int i = 0; i < 3; i++) {
        expect_alive(&fixture);
    }
    EVENTUALLY(fixture.closed == 3);
    CHECK_INT(fixture.opened, 3);
    slow.go = true;
    expect_101(fd);
    expect_text(fd, "early");
    expect_text(fd, "later");
    close_politely(fd);
    CHECK_INT(fixture.refused, 0);
    fixture_end(&fixture);
}

EACH_WAY(a_slow_handler_may_refuse_or_do_nothing)
{
    for (int i = 0; i < 2; i++) {
        struct slow slow;
        struct fixture fixture;
        prepare_slow(&fixture, way, &slow);
        slow.decide = i == 0 ? refuse : ignore;
        int fd = start_slow(&fixture);
        expect_alive(&fixture);
        slow.go = true;
        if (i == 0) {
            char head[1024];
            CHECK(take_head(fd, head, sizeof(head)));
            CHECK(strncmp(head, "HTTP/1.1 403 ", 13) == 0);
        }
        (void)read_to_end(fd);
        CHECK_INT(close(fd), 0);
        EVENTUALLY(fixture.closed == 1);
        CHECK_INT(fixture.opened, 1);
        fixture_end(&fixture);
    }
}

EACH_WAY(the_peer_vanishes_amid_a_slow_decision)
{
    for (int i = 0; i < 2; i++) {
        struct slow slow;
        struct fixture fixture;
        prepare_slow(&fixture, way, &slow);
        int fd = start_slow(&fixture);
        expect_alive(&fixture);
        if (i == 0) {
            reset_fd(fd);
        }
        else {
            CHECK_INT(close(fd), 0);
        }
        expect_alive(&fixture); /* and nothing spins, or looks at it */
        slow.go = true;
        EVENTUALLY(fixture.accepted == 3);
        EVENTUALLY(fixture.closed + fixture.discarded == 3);
        fixture_end(&fixture);
    }
}

EACH_WAY(the_deadline_of_a_slow_decision_passes)
{
    struct slow slow;
    struct fixture fixture;
    prepare_slow(&fixture, way, &slow);
    fixture.options.open_timeout = 100 * MILLISECOND;
    int fd = start_slow(&fixture);
    EVENTUALLY(fixture.refused == 1);
    CHECK_INT(fixture.last_http_status, 408);
    CHECK_INT(fixture.discarded, 0); /* its handler looks at it still */
    expect_alive(&fixture);
    slow.go = true;
    EVENTUALLY(fixture.discarded == 1);
    (void)read_to_end(fd);
    CHECK_INT(close(fd), 0);
    EVENTUALLY(fixture.closed == 1);
    CHECK_INT(fixture.opened, 1);
    CHECK_INT(fixture.refused, 1);
    fixture_end(&fixture);
}

EACH_WAY(a_slow_decision_may_become_the_oldest_of_too_many)
{
    struct slow slow;
    struct fixture fixture;
    prepare_slow(&fixture, way, &slow);
    fixture.options.max_half_open = 1;
    fixture.options.open_timeout = 100 * MILLISECOND;
    int fd = start_slow(&fixture);
    expect_alive(&fixture);
    EVENTUALLY(fixture.refused == 1);
    CHECK_INT(fixture.last_http_status, 429);
    expect_alive(&fixture);
    pause_for(150 * MILLISECOND); /* over twice, but refused once */
    CHECK_INT(fixture.refused, 1);
    slow.go = true;
    EVENTUALLY(fixture.discarded == 1);
    (void)read_to_end(fd);
    CHECK_INT(close(fd), 0);
    EVENTUALLY(fixture.closed == 2);
    CHECK_INT(fixture.refused, 1);
    fixture_end(&fixture);
}

EACH_WAY(a_slow_refusal_counts_once)
{
    for (int i = 0; i < 2; i++) {
        struct slow slow;
        struct fixture fixture;
        prepare_slow(&fixture, way, &slow);
        slow.decide = turn_away;
        if (i > 0) {
            fixture.options.open_timeout = 100 * MILLISECOND;
        }
        int fd = start_slow(&fixture);
        if (i > 0) {
            EVENTUALLY(fixture.refused == 1);
            CHECK_INT(fixture.last_http_status, 408);
        }
        slow.go = true;
        (void)read_to_end(fd);
        CHECK_INT(close(fd), 0);
        EVENTUALLY(fixture.refused == 1);
        CHECK_INT(fixture.last_http_status, i > 0 ? 408 : 403);
        fixture_end(&fixture);
        CHECK_INT(fixture.refused, 1);
    }
}

/* The loop ends, and the handler returns after that. */
EACH_WAY(a_stop_comes_amid_a_slow_decision)
{
    for (int i = 0; i < 2; i++) {
        struct slow slow;
        struct fixture fixture;
        prepare_slow(&fixture, way, &slow);
        int fd = start_slow(&fixture);
        expect_alive(&fixture); /* so that another one drives */
        tws_server_stop(fixture.server, 1001, TWS_SPAN(""),
                        i == 0 ? 0 : UINT64_MAX);
        EVENTUALLY(fixture.ended == 1);
        CHECK_INT(fixture.discarded, 0);
        slow.go = true;
        fixture_join(&fixture);
        CHECK_INT(fixture.discarded, 1);
        CHECK_INT(fixture.opened, 1);
        (void)read_to_end(fd);
        CHECK_INT(close(fd), 0);
        fixture_end(&fixture);
    }
}

RUN(T(a_slow_decision_holds_up_nobody_else),
    T(a_slow_handler_may_refuse_or_do_nothing),
    T(the_peer_vanishes_amid_a_slow_decision),
    T(the_deadline_of_a_slow_decision_passes),
    T(a_slow_decision_may_become_the_oldest_of_too_many),
    T(a_slow_refusal_counts_once), T(a_stop_comes_amid_a_slow_decision))
