/* Receipts: who sends with one hears, exactly once, that the message has left
 * or never will. */
#include "odd_transport.h"

enum { MANY = 200 * 1024 };

/* ---- receipts ---------------------------------------------------------- */

enum { NOTES = 32 };

static char receipts[NOTES]; /* their addresses */

/* In which order receipts came back, and how. */
struct notes {
    atomic_int count;
    int number[NOTES];
    bool sent[NOTES];
};

static void
note(struct fixture *fixture, const void *receipt, bool sent)
{
    struct notes *notes = fixture->context;
    int at = notes->count;
    CHECK(at < NOTES);
    notes->number[at] = (int)((const char *)receipt - receipts);
    notes->sent[at] = sent;
    notes->count++;
}

static void
note_sent(struct fixture *fixture, struct tws_client *client, void *receipt)
{
    (void)client;
    note(fixture, receipt, true);
}

static void
note_unsent(struct fixture *fixture, void *receipt)
{
    note(fixture, receipt, false);
}

static void
expect_notes(const struct notes *notes, int count, int sent)
{
    CHECK_INT(notes->count, count);
    for (int i = 0; i < notes->count; i++) {
        CHECK_INT(notes->number[i], i);
        CHECK_INT(notes->sent[i], i < sent);
    }
}

static void
note_receipts(struct fixture *fixture, struct notes *notes)
{
    *notes = (struct notes){.count = 0};
    fixture->context = notes;
    fixture->on_sent = note_sent;
    fixture->on_unsent = note_unsent;
}

static void
send_with_receipts(struct fixture *fixture, struct tws_client *client,
                   const struct tws_event *event)
{
    (void)event;
    for (int i = 0; i < 4; i++) {
        CHECK_INT(fixture_send(fixture, client, "x", &receipts[i]), TWS_OK);
        CHECK_INT(send_pattern(client, i == 2 ? MANY : 10), TWS_OK);
    }
    CHECK_INT(fixture->sent, 0); /* it is not called in here */
}

BOTH_KINDS(receipts_of_a_handler_come_back_in_order)
{
    struct notes notes;
    struct fixture fixture;
    fixture_init(&fixture, kind);
    note_receipts(&fixture, &notes);
    fixture.on_message = send_with_receipts;
    fixture_start(&fixture);
    int fd = connect_client(&fixture);
    put_text(fd, "go");
    for (int i = 0; i < 4; i++) {
        expect_text(fd, "x");
        expect_frame(fd, TEXT, pattern, i == 2 ? MANY : 10);
    }
    EVENTUALLY(notes.count == 4);
    expect_notes(&notes, 4, 4);
    close_politely(fd);
    fixture_end(&fixture);
}

BOTH_KINDS(a_receipt_comes_back_when_its_last_byte_has_left)
{
    struct notes notes;
    struct fixture fixture;
    fixture_init(&fixture, kind);
    note_receipts(&fixture, &notes);
    int fd = start_held_back(&fixture);
    for (int i = 0; i < 3; i++) {
        CHECK_INT(
            fixture_send(&fixture, fixture.held, "12345678", &receipts[i]),
            TWS_OK);
    }
    let_leave(fixture.held, 9);
    pause_for(10 * MILLISECOND);
    CHECK_INT(notes.count, 0);
    let_leave(fixture.held, 1);
    EVENTUALLY(notes.count == 1);
    let_leave(fixture.held, 19);
    EVENTUALLY(notes.count == 2);
    pause_for(10 * MILLISECOND);
    CHECK_INT(notes.count, 2);
    let_leave(fixture.held, 1);
    EVENTUALLY(notes.count == 3);
    expect_notes(&notes, 3, 3);
    allowance = SIZE_MAX;
    for (int i = 0; i < 3; i++) {
        expect_text(fd, "12345678");
    }
    close_politely(fd);
    fixture_end(&fixture);
}

/* From outside all has left when the call returns; the receipt comes back by
 * way of the driver. */
BOTH_KINDS(receipts_of_another_thread_come_back)
{
    struct notes notes;
    struct fixture fixture;
    struct tws_error err;
    fixture_init(&fixture, kind);
    note_receipts(&fixture, &notes);
    fixture.hold = true;
    fixture_start(&fixture);
    int fd = connect_client(&fixture);
    EVENTUALLY(fixture.opened == 1);
    for (int i = 0; i < 10; i++) {
        if (i % 2 == 0) {
            CHECK_INT(fixture_send(&fixture, fixture.held, "x", &receipts[i]),
                      TWS_OK);
        }
        else {
            fixture.receipts++;
            CHECK_INT(tws_client_send_packed(
                          fixture.held, TWS_SPAN("\x81\x01x"),
                          TWS_STANDS_ALONE, 1, 1, &receipts[i], &err),
                      TWS_OK);
        }
        expect_text(fd, "x");
        if (i % 3 == 0) {
            EVENTUALLY(notes.count == i + 1);
        }
    }
    EVENTUALLY(notes.count == 10);
    expect_notes(&notes, 10, 10);
    close_politely(fd);
    fixture_end(&fixture);
}

/* Each that has left brings the next. */
static void
send_the_next(struct fixture *fixture, struct tws_client *client,
              void *receipt)
{
    note_sent(fixture, client, receipt);
    if (receipt != &receipts[NOTES - 1]) {
        CHECK_INT(fixture_send(fixture, client, "x", (char *)receipt + 1),
                  TWS_OK);
    }
}

BOTH_KINDS(the_handler_of_a_receipt_sends_the_next)
{
    struct notes notes;
    struct fixture fixture;
    fixture_init(&fixture, kind);
    note_receipts(&fixture, &notes);
    fixture.on_sent = send_the_next;
    fixture.hold = true;
    fixture_start(&fixture);
    int fd = connect_client(&fixture);
    EVENTUALLY(fixture.opened == 1);
    CHECK_INT(fixture_send(&fixture, fixture.held, "x", &receipts[0]), TWS_OK);
    for (int i = 0; i < NOTES; i++) {
        expect_text(fd, "x");
    }
    EVENTUALLY(notes.count == NOTES);
    expect_notes(&notes, NOTES, NOTES);
    close_politely(fd);
    fixture_end(&fixture);
}

BOTH_KINDS(what_never_leaves_is_told)
{
    for (int reset = 0; reset < 2; reset++) {
        struct notes notes;
        struct fixture fixture;
        fixture_init(&fixture, kind);
        note_receipts(&fixture, &notes);
        int fd = start_held_back(&fixture);
        for (int i = 0; i < 5; i++) {
            CHECK_INT(
                fixture_send(&fixture, fixture.held, "12345678", &receipts[i]),
                TWS_OK);
        }
        let_leave(fixture.held, 25);
        EVENTUALLY(notes.count == 2);
        if (reset == 1) {
            reset_fd(fd);
        }
        else {
            break_off(fixture.held);
            CHECK_INT(close(fd), 0);
        }
        EVENTUALLY(notes.count == 5);
        CHECK_INT(fixture.closed, 1); /* told before */
        expect_notes(&notes, 5, 2);
        fixture_end(&fixture);
    }
}

BOTH_KINDS(what_a_stop_cuts_off_is_told)
{
    struct notes notes;
    struct fixture fixture;
    fixture_init(&fixture, kind);
    note_receipts(&fixture, &notes);
    int fd = start_held_back(&fixture);
    CHECK_INT(fixture_send(&fixture, fixture.held, "x", &receipts[0]), TWS_OK);
    tws_server_stop(fixture.server, 1001, TWS_SPAN(""), 0);
    fixture_join(&fixture);
    expect_notes(&notes, 1, 0);
    CHECK_INT(close(fd), 0);
    fixture_end(&fixture);
}

BOTH_KINDS(a_message_that_is_refused_keeps_its_receipt)
{
    struct notes notes;
    struct fixture fixture;
    struct tws_error err;
    fixture_init(&fixture, kind);
    note_receipts(&fixture, &notes);
    fixture.hold = true;
    fixture_start(&fixture);
    int fd = connect_client(&fixture);
    EVENTUALLY(fixture.opened == 1);
    CHECK_INT(begin_close(fixture.held, 1000, ""), TWS_OK);
    CHECK_INT(fixture_send(&fixture, fixture.held, "x", &receipts[0]),
              TWS_EOF);
    CHECK_INT(tws_client_send_packed(fixture.held, TWS_SPAN("\x81\x01x"),
                                     TWS_STANDS_ALONE, 1, 1, &receipts[0],
                                     &err),
              TWS_EOF);
    expect_close(fd, 1000);
    put_close(fd, 1000);
    CHECK(read_to_end(fd));
    CHECK_INT(close(fd), 0);
    fixture_end(&fixture);
    CHECK_INT(notes.count, 0);
}

/* ---- sending to a client that a slow handler has ----------------------- */

static void
block_detached(struct fixture *fixture, struct tws_client *client,
               const struct tws_event *event)
{
    struct notes *notes = fixture->context;
    (void)client;
    (void)event;
    EVENTUALLY(tws_server_before_wait(fixture->server));
    void *token = fixture_leave(fixture);
    EVENTUALLY(notes->count < 0);
    fixture_enter(fixture, token);
    notes->count = 0;
}

/* More than the kernel takes at once: the driver does the rest. */
EACH_WAY(what_is_queued_leaves_while_the_handler_sleeps)
{
    enum { MESSAGES = 20 };
    struct notes notes;
    struct fixture fixture;
    fixture_init_pool(&fixture, way);
    note_receipts(&fixture, &notes);
    fixture.hold = true;
    fixture.send_room = 64 * 1024;
    fixture.on_message = block_detached;
    fixture_start(&fixture);
    int fd = connect_small(&fixture, 64 * 1024);
    fixture_await_spare(&fixture);
    put_text(fd, "sleep");
    EVENTUALLY(fixture.opened == 1 && is_detached(fixture.held));
    for (int i = 0; i < MESSAGES; i++) {
        CHECK_INT(send_pattern(fixture.held, MANY), TWS_OK);
    }
    CHECK_INT(fixture_send(&fixture, fixture.held, "x", &receipts[0]), TWS_OK);
    for (int i = 0; i < MESSAGES; i++) {
        expect_frame(fd, TEXT, pattern, MANY);
    }
    expect_text(fd, "x");
    EVENTUALLY(tws_client_queued(fixture.held) == 0);
    CHECK_INT(fixture.messages, 0);
    CHECK_INT(fixture.sent, 0); /* no two handlers of a client at a time */
    notes.count = -1;           /* the handler goes on */
    EVENTUALLY(fixture.sent == 1);
    close_politely(fd);
    fixture_end(&fixture);
}

RUN(T(receipts_of_a_handler_come_back_in_order),
    T(a_receipt_comes_back_when_its_last_byte_has_left),
    T(receipts_of_another_thread_come_back),
    T(the_handler_of_a_receipt_sends_the_next), T(what_never_leaves_is_told),
    T(what_a_stop_cuts_off_is_told),
    T(a_message_that_is_refused_keeps_its_receipt),
    T(what_is_queued_leaves_while_the_handler_sleeps))
