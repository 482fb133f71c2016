#include "guard.h"
#include "harness.h"
#include "protocol/http_fields.h"

enum { LONG = 65536 };

static struct tws_span
text(const char *data)
{
    return (struct tws_span){.data = data, .length = strlen(data)};
}

/* The elements of `data`, which ends at a guard page, joined by '|'. */
static const char *
elements(const char *data)
{
    static char joined[512];
    struct guard guard = guard_copy(data, strlen(data));
    struct tws_list_walker walker = {
        {.data = (const char *)guard.data, .length = strlen(data)}};
    struct tws_span element;
    size_t length = 0;
    while (tws_list_next(&walker, &element)) {
        length += (size_t)snprintf(joined + length, sizeof(joined) - length,
                                   "%s%.*s", length > 0 ? "|" : "",
                                   (int)element.length, element.data);
    }
    joined[length] = '\0';
    CHECK(!tws_list_next(&walker, &element));
    guard_free(&guard);
    return joined;
}

#define CHECK_LIST(data, expected)                                            \
    do {                                                                      \
        const char *check_got = elements(data);                               \
        if (strcmp(check_got, expected) != 0) {                               \
            fprintf(stderr, "%s is \"%s\"\n", #data, check_got);              \
            CHECK(false);                                                     \
        }                                                                     \
    } while (0)

TEST(list_elements_come_trimmed_and_never_empty)
{
    CHECK_LIST("", "");
    CHECK_LIST("a", "a");
    CHECK_LIST("a,b", "a|b");
    CHECK_LIST(" a \t,\t b c ", "a|b c");
    CHECK_LIST(",,a,, ,b,", "a|b");
    CHECK_LIST(" , \t,", "");
}

TEST(comma_in_a_quoted_string_separates_nothing)
{
    CHECK_LIST("a=\"b,c\",d", "a=\"b,c\"|d");
    CHECK_LIST("a=\"b\\\",c\",d", "a=\"b\\\",c\"|d");
    CHECK_LIST("a=\"b\\\\\",c", "a=\"b\\\\\"|c");
    CHECK_LIST("a\\\",b\",c", "a\\\",b\"|c");
    CHECK_LIST("a=\"b,c", "a=\"b,c");
    CHECK_LIST("a=\"b\\", "a=\"b\\");
    CHECK_LIST("\"", "\"");
}

/* Whether fields "X: <first>" and "x: <second>" list "upgrade". */
static bool
lists(const char *first, const char *second)
{
    struct tws_http_head head = {.field_count = 3};
    head.fields[0] = (struct tws_http_field){text("X"), text(first)};
    head.fields[1] = (struct tws_http_field){text("XX"), text("upgrade")};
    head.fields[2] = (struct tws_http_field){text("x"), text(second)};
    return tws_http_lists_token(&head, TWS_SPAN("X"), TWS_SPAN("upgrade"));
}

TEST(notupgrade_is_not_upgrade)
{
    CHECK(lists("upgrade", ""));
    CHECK(lists("UpGrade", ""));
    CHECK(lists("keep-alive, Upgrade", ""));
    CHECK(lists("keep-alive", "\tupgrade ,"));
    CHECK(!lists("", ""));
    CHECK(!lists("notupgrade", ""));
    CHECK(!lists("upgraded", ""));
    CHECK(!lists("not-upgrade", "upgrade-not"));
    CHECK(!lists("up,grade", "upgrad"));
    CHECK(!lists("keep-alive upgrade", "upgrade/13"));
    CHECK(!lists("upgrade;q=1", "\"upgrade\""));
    CHECK(!lists("upgrade\x0b", "\xa0upgrade"));
}

/* The extensions of `data`, which ends at a guard page, written plainly:
 * "a;x;y=1|b", or "!" in the place where the grammar breaks. */
static const char *
extensions(const char *data)
{
    static char plain[512];
    struct guard guard = guard_copy(data, strlen(data));
    struct tws_extension_walker walker = {
        .rest = {.data = (const char *)guard.data, .length = strlen(data)}};
    struct tws_error err = {0};
    struct tws_span name;
    struct tws_extension_param param;
    size_t length = 0;
    enum tws_status status = tws_extension_next(&walker, &name, &err);
    while (status == TWS_OK) {
        length += (size_t)snprintf(plain + length, sizeof(plain) - length,
                                   "%s%.*s", length > 0 ? "|" : "",
                                   (int)name.length, name.data);
        while ((status = tws_extension_param_next(&walker, &param, &err))
               == TWS_OK) {
            char value[128];
            size_t size = tws_extension_unquote(&param, value);
            CHECK(param.has_value || size == 0);
            CHECK_INT(param.quoted_pairs,
                      param.value.length > 0
                          && memchr(param.value.data, '\\', param.value.length)
                                 != NULL);
            CHECK(!param.has_value
                  || tws_http_is_token((struct tws_span){value, size}));
            length += (size_t)snprintf(
                plain + length, sizeof(plain) - length, ";%.*s%s%.*s",
                (int)param.name.length, param.name.data,
                param.has_value ? "=" : "", (int)size, value);
        }
        if (status == TWS_EOF) {
            status = tws_extension_next(&walker, &name, &err);
        }
    }
    if (status == TWS_REFUSED) {
        CHECK_INT(err.http_status, 400);
        CHECK(strlen(err.reason) > 10);
        length +=
            (size_t)snprintf(plain + length, sizeof(plain) - length, "!");
    }
    else {
        CHECK_INT(status, TWS_EOF);
        CHECK_INT(tws_extension_next(&walker, &name, &err), TWS_EOF);
    }
    plain[length] = '\0';
    guard_free(&guard);
    return plain;
}

#define CHECK_EXTENSIONS(data, expected)                                      \
    do {                                                                      \
        const char *check_got = extensions(data);                             \
        if (strcmp(check_got, expected) != 0) {                               \
            fprintf(stderr, "%s is \"%s\"\n", #data, check_got);              \
            CHECK(false);                                                     \
        }                                                                     \
    } while (0)

TEST(extensions_and_parameters_are_walked_in_order)
{
    CHECK_EXTENSIONS("", "");
    CHECK_EXTENSIONS(" ,", "");
    CHECK_EXTENSIONS("permessage-deflate", "permessage-deflate");
    CHECK_EXTENSIONS("permessage-deflate; client_max_window_bits; "
                     "server_max_window_bits=10, foo",
                     "permessage-deflate;client_max_window_bits;"
                     "server_max_window_bits=10|foo");
    CHECK_EXTENSIONS("a;b,c;d=1,,e", "a;b|c;d=1|e");
    /* White space between any two words (RFC 6455 §4.3). */
    CHECK_EXTENSIONS("a ;\tb = 1 ; c= \"2\" , d ", "a;b=1;c=2|d");
    CHECK_EXTENSIONS("constructor; __proto__=toString",
                     "constructor;__proto__=toString");
}

TEST(quoted_value_is_unquoted)
{
    CHECK_EXTENSIONS("a;b=\"c\"", "a;b=c");
    CHECK_EXTENSIONS("a;b=\"\\c\"", "a;b=c");
    CHECK_EXTENSIONS("a;b=\"\\1\\0\";c", "a;b=10;c");
    CHECK_EXTENSIONS("a;b=\"x\\yz\\w\",d", "a;b=xyzw|d");
}

TEST(quoted_value_must_be_a_token_once_unquoted)
{
    CHECK_EXTENSIONS("a;b=\"\"", "a!");
    CHECK_EXTENSIONS("a;b=\"c d\"", "a!");
    CHECK_EXTENSIONS("a;b=\" c\"", "a!");
    CHECK_EXTENSIONS("a;b=\"c,d\"", "a!");
    CHECK_EXTENSIONS("a;b=\"c;d\"", "a!");
    CHECK_EXTENSIONS("a;b=\"\\,\"", "a!");
    CHECK_EXTENSIONS("a;b=\"\\\"\"", "a!");
    CHECK_EXTENSIONS("a;b=\"\\\\\"", "a!");
    CHECK_EXTENSIONS("a;b=\"c\\\\d\"", "a!");
    CHECK_EXTENSIONS("a;b=\"c\xe9\"", "a!");
}

TEST(unterminated_quoted_value_is_refused)
{
    CHECK_EXTENSIONS("a;b=\"", "a!");
    CHECK_EXTENSIONS("a;b=\"c", "a!");
    CHECK_EXTENSIONS("a;b=\"c\\", "a!");
    CHECK_EXTENSIONS("a;b=\"c\\\"", "a!");
    CHECK_EXTENSIONS("a;b=\"\\", "a!");
    CHECK_EXTENSIONS("a;b=\"\\\"", "a!");
    CHECK_EXTENSIONS("a;b=\"c, d", "a!");
}

TEST(broken_extension_grammar_is_refused)
{
    CHECK_EXTENSIONS(";", "!");
    CHECK_EXTENSIONS(";a", "!");
    CHECK_EXTENSIONS("a,;b", "a!");
    CHECK_EXTENSIONS("a;", "a!");
    CHECK_EXTENSIONS("a;;b", "a!");
    CHECK_EXTENSIONS("a; ,b", "a!");
    CHECK_EXTENSIONS("a b", "!");
    CHECK_EXTENSIONS("a=b", "!");
    CHECK_EXTENSIONS("\"a\"", "!");
    CHECK_EXTENSIONS("a;=b", "a!");
    CHECK_EXTENSIONS("a;b=", "a!");
    CHECK_EXTENSIONS("a;b=;c", "a!");
    CHECK_EXTENSIONS("a;b==c", "a!");
    CHECK_EXTENSIONS("a;b=c=d", "a!");
    CHECK_EXTENSIONS("a;b c", "a!");
    CHECK_EXTENSIONS("a;b=c d", "a!");
    CHECK_EXTENSIONS("a;b=\"c\"d", "a!");
    CHECK_EXTENSIONS("a;b=\"c\"\"d\"", "a!");
    CHECK_EXTENSIONS("a;b\"c\"", "a!");
    CHECK_EXTENSIONS("a/1", "!");
    CHECK_EXTENSIONS("a\x0b;b", "!");
    CHECK_EXTENSIONS("\xff", "!");
    CHECK_EXTENSIONS("a;\xff", "a!");
    CHECK_EXTENSIONS("a;b=\xff", "a!");
}

TEST(refusal_stays_a_refusal)
{
    struct tws_extension_walker walker = {.rest = TWS_SPAN("a;b=,c")};
    struct tws_span name;
    struct tws_extension_param param;
    struct tws_error err;
    CHECK_INT(tws_extension_next(&walker, &name, &err), TWS_OK);
    CHECK_INT(tws_extension_param_next(&walker, &param, &err), TWS_REFUSED);
    CHECK_INT(tws_extension_param_next(&walker, &param, &err), TWS_REFUSED);
    walker = (struct tws_extension_walker){.rest = TWS_SPAN("=,c")};
    CHECK_INT(tws_extension_next(&walker, &name, &err), TWS_REFUSED);
    CHECK_INT(tws_extension_next(&walker, &name, &err), TWS_REFUSED);
}

TEST(parameters_need_not_be_walked)
{
    struct tws_extension_walker walker = {.rest =
                                              TWS_SPAN("a;x=\",\";y, b;z, c")};
    struct tws_span name;
    struct tws_extension_param param;
    struct tws_error err;
    CHECK_INT(tws_extension_next(&walker, &name, &err), TWS_OK);
    CHECK_INT(tws_extension_next(&walker, &name, &err), TWS_OK);
    CHECK_BYTES(name.data, name.length, "b");
    CHECK_INT(tws_extension_next(&walker, &name, &err), TWS_OK);
    CHECK_BYTES(name.data, name.length, "c");
    CHECK_INT(tws_extension_param_next(&walker, &param, &err), TWS_EOF);
    CHECK_INT(tws_extension_next(&walker, &name, &err), TWS_EOF);
    CHECK_INT(tws_extension_param_next(&walker, &param, &err), TWS_EOF);

    walker = (struct tws_extension_walker){.rest = TWS_SPAN("a;x")};
    CHECK_INT(tws_extension_next(&walker, &name, &err), TWS_OK);
    CHECK_INT(tws_extension_next(&walker, &name, &err), TWS_EOF);
    CHECK_INT(tws_extension_param_next(&walker, &param, &err), TWS_EOF);
}

/* That a walk is linear follows from two facts: a step never looks at what
 * lies behind the delimiter it stops at, nor back at what an earlier step
 * took. The first is shown by a guard page behind the delimiter, while
 * `length` says that there is more. */
TEST(list_step_looks_no_further_than_its_comma)
{
    static const char *const FRONTS[] = {
        "a,", "  a\t ,", "\"a,b\\\"\\\\\" c,", "\\,", "a=\"\",",
    };
    for (size_t i = 0; i < TWS_ARRAY_SIZE(FRONTS); i++) {
        size_t length = strlen(FRONTS[i]);
        struct guard guard = guard_copy(FRONTS[i], length);
        struct tws_list_walker walker = {
            {.data = (const char *)guard.data, .length = LONG}};
        struct tws_span element;
        CHECK(tws_list_next(&walker, &element));
        CHECK(walker.rest.data == (const char *)guard.data + length);
        CHECK_INT(walker.rest.length, LONG - length);

        struct tws_extension_walker extension = {
            .rest = {.data = (const char *)guard.data, .length = LONG}};
        struct tws_span name;
        struct tws_error err;
        enum tws_status status = tws_extension_next(&extension, &name, &err);
        CHECK(status == TWS_REFUSED
              || extension.rest.data == (const char *)guard.data + length);
        guard_free(&guard);
    }
}

TEST(parameter_step_looks_no_further_than_its_semicolon)
{
    static const char *const FRONTS[] = {
        "; a;",
        ";a = b ;",
        ";a=\"b\\c\" ;",
    };
    for (size_t i = 0; i < TWS_ARRAY_SIZE(FRONTS); i++) {
        size_t length = strlen(FRONTS[i]);
        struct guard guard = guard_copy(FRONTS[i], length);
        struct tws_extension_walker walker = {
            .params = {.data = (const char *)guard.data, .length = LONG}};
        struct tws_extension_param param;
        struct tws_error err;
        CHECK_INT(tws_extension_param_next(&walker, &param, &err), TWS_OK);
        CHECK(walker.params.data == (const char *)guard.data + length - 1);
        guard_free(&guard);
    }
}

/* The second: every step moves `rest` forward, and what lies before it is
 * overwritten without any effect. Returns the number of steps. */
static size_t
walk_list(const char *pattern, size_t *last_length)
{
    static char data[LONG];
    size_t pattern_length = strlen(pattern);
    for (size_t i = 0; i < LONG; i++) {
        data[i] = pattern[i % pattern_length];
    }
    struct guard guard = guard_copy(data, LONG);
    struct tws_list_walker walker = {
        {.data = (const char *)guard.data, .length = LONG}};
    struct tws_span element = {0};
    size_t steps = 0;
    const char *before = walker.rest.data;
    while (tws_list_next(&walker, &element)) {
        CHECK(element.data >= before && element.length > 0);
        CHECK(element.data + element.length <= walker.rest.data);
        CHECK(walker.rest.data > before);
        before = walker.rest.data;
        memset(guard.data, '"', (size_t)(before - (const char *)guard.data));
        steps++;
    }
    CHECK_INT(walker.rest.length, 0);
    *last_length = element.length;
    guard_free(&guard);
    return steps;
}

TEST(long_lists_are_walked_once)
{
    size_t last;
    CHECK_INT(walk_list(" ", &last), 0);
    CHECK_INT(walk_list(",", &last), 0);
    CHECK_INT(walk_list(" ,", &last), 0);
    CHECK_INT(walk_list("a,", &last), LONG / 2);
    CHECK_INT(walk_list("\"", &last), 1);
    CHECK_INT(last, LONG);
    CHECK_INT(walk_list("\\", &last), 1);
    CHECK_INT(walk_list("\"\\", &last), 1);
    CHECK_INT(walk_list("\",", &last), LONG / 4);
    CHECK_INT(walk_list("\"\",", &last), LONG / 3 + 1);
    CHECK_INT(walk_list("a ", &last), 1);
    CHECK_INT(last, LONG - 1);
}

/* The steps over a head, then a pattern up to 64 KiB. */
static size_t
walk_extensions(const char *front, const char *pattern,
                enum tws_status expected)
{
    static char data[LONG];
    size_t front_length = strlen(front);
    size_t pattern_length = strlen(pattern);
    memcpy(data, front, front_length);
    for (size_t i = front_length; i < LONG; i++) {
        data[i] = pattern[(i - front_length) % pattern_length];
    }
    struct guard guard = guard_copy(data, LONG);
    struct tws_extension_walker walker = {
        .rest = {.data = (const char *)guard.data, .length = LONG}};
    struct tws_span name;
    struct tws_extension_param param;
    struct tws_error err;
    size_t steps = 0;
    enum tws_status status = tws_extension_next(&walker, &name, &err);
    while (status == TWS_OK) {
        steps++;
        const char *before = walker.params.data;
        while ((status = tws_extension_param_next(&walker, &param, &err))
               == TWS_OK) {
            CHECK(walker.params.data > before);
            before = walker.params.data;
            memset(guard.data, '"',
                   (size_t)(before - (const char *)guard.data));
            steps++;
        }
        if (status == TWS_EOF) {
            status = tws_extension_next(&walker, &name, &err);
        }
    }
    CHECK_INT(status, expected);
    guard_free(&guard);
    return steps;
}

TEST(long_extension_lists_are_walked_once)
{
    CHECK_INT(walk_extensions("a", " ", TWS_EOF), 1);
    CHECK_INT(walk_extensions("a", ",", TWS_EOF), 1);
    CHECK_INT(walk_extensions("", "a,", TWS_EOF), LONG / 2);
    CHECK_INT(walk_extensions("a", ";", TWS_REFUSED), 1);
    CHECK_INT(walk_extensions("a", ";b", TWS_REFUSED), LONG / 2);
    CHECK_INT(walk_extensions("ab", ";b", TWS_EOF), LONG / 2);
    CHECK_INT(walk_extensions("a;b=", "\"", TWS_REFUSED), 1);
    CHECK_INT(walk_extensions("a;b=\"", "\\", TWS_REFUSED), 1);
    CHECK_INT(walk_extensions("a;b=\"", "\\c", TWS_REFUSED), 1);
    CHECK_INT(walk_extensions("a;b=\"", " ", TWS_REFUSED), 1);
    CHECK_INT(walk_extensions("a;b=", " ", TWS_REFUSED), 1);
    CHECK_INT(walk_extensions("", "\"", TWS_REFUSED), 0);
    CHECK_INT(walk_extensions("", "constructor", TWS_EOF), 1);
}

RUN(T(list_elements_come_trimmed_and_never_empty),
    T(comma_in_a_quoted_string_separates_nothing),
    T(notupgrade_is_not_upgrade),
    T(extensions_and_parameters_are_walked_in_order),
    T(quoted_value_is_unquoted), T(quoted_value_must_be_a_token_once_unquoted),
    T(unterminated_quoted_value_is_refused),
    T(broken_extension_grammar_is_refused), T(refusal_stays_a_refusal),
    T(parameters_need_not_be_walked),
    T(list_step_looks_no_further_than_its_comma),
    T(parameter_step_looks_no_further_than_its_semicolon),
    T(long_lists_are_walked_once), T(long_extension_lists_are_walked_once))
