#include "guard.h"
#include "harness.h"
#include "protocol/http_auth.h"

enum { LONG = 65536 };

static struct tws_span
text(const char *data)
{
    return (struct tws_span){.data = data, .length = strlen(data)};
}

/* The challenges of `data`, which ends at a guard page, written plainly:
 * "Basic realm=[x]|Negotiate:YWJj", or "!" in the place where the grammar
 * breaks. */
static const char *
challenges(const char *data)
{
    static char plain[2048];
    struct guard guard = guard_copy(data, strlen(data));
    struct tws_auth_walker walker = {
        .rest = {.data = (const char *)guard.data, .length = strlen(data)}};
    struct tws_auth auth;
    struct tws_error err = {0};
    size_t length = 0;
    enum tws_status status;
    while ((status = tws_auth_next(&walker, &auth, &err)) == TWS_OK) {
        length += (size_t)snprintf(plain + length, sizeof(plain) - length,
                                   "%s%.*s", length > 0 ? "|" : "",
                                   (int)auth.scheme.length, auth.scheme.data);
        if (auth.token68.length > 0) {
            CHECK_INT(auth.param_count, 0);
            length += (size_t)snprintf(plain + length, sizeof(plain) - length,
                                       ":%.*s", (int)auth.token68.length,
                                       auth.token68.data);
        }
        for (size_t i = 0; i < auth.param_count; i++) {
            const struct tws_auth_param *param = &auth.params[i];
            char value[256];
            size_t size = tws_auth_unquote(param, value);
            struct tws_span got = {.data = value, .length = size};
            CHECK(tws_auth_value_is(param, got));
            CHECK(tws_auth_find(&auth, param->name) == param);
            CHECK_INT(param->quoted_pairs, size < param->value.length);
            length += (size_t)snprintf(plain + length, sizeof(plain) - length,
                                       " %.*s=[%.*s]", (int)param->name.length,
                                       param->name.data, (int)size, value);
        }
    }
    if (status == TWS_REFUSED) {
        CHECK_INT(err.http_status, 400);
        CHECK(strlen(err.reason) > 10);
        CHECK_INT(tws_auth_next(&walker, &auth, &err), TWS_REFUSED);
        (void)snprintf(plain + length, sizeof(plain) - length, "!");
    }
    else {
        CHECK_INT(status, TWS_EOF);
        CHECK_INT(tws_auth_next(&walker, &auth, &err), TWS_EOF);
        plain[length] = '\0';
    }
    guard_free(&guard);
    return plain;
}

#define CHECK_CHALLENGES(data, expected)                                      \
    do {                                                                      \
        const char *check_got = challenges(data);                             \
        if (strcmp(check_got, expected) != 0) {                               \
            fprintf(stderr, "%s is \"%s\"\n", #data, check_got);              \
            CHECK(false);                                                     \
        }                                                                     \
    } while (0)

TEST(challenges_are_walked_in_order)
{
    CHECK_CHALLENGES("", "");
    CHECK_CHALLENGES(" , ,", "");
    CHECK_CHALLENGES("Basic realm=\"x y\"", "Basic realm=[x y]");
    CHECK_CHALLENGES("Basic realm=x", "Basic realm=[x]");
    CHECK_CHALLENGES("Negotiate", "Negotiate");
    CHECK_CHALLENGES("Negotiate, NTLM ,Basic realm=\"\"",
                     "Negotiate|NTLM|Basic realm=[]");
    /* RFC 9110 §11.6.1. */
    CHECK_CHALLENGES("Basic realm=\"simple\", Newauth realm=\"apps\", type=1, "
                     "title=\"Login to \\\"apps\\\"\"",
                     "Basic realm=[simple]|Newauth realm=[apps] type=[1] "
                     "title=[Login to \"apps\"]");
    CHECK_CHALLENGES(",Digest a=1,, b=\"2\" ,\t, Basic realm=z,",
                     "Digest a=[1] b=[2]|Basic realm=[z]");
    CHECK_CHALLENGES("Digest , a=1", "Digest a=[1]");
    CHECK_CHALLENGES("Digest , Basic realm=x", "Digest|Basic realm=[x]");
    CHECK_CHALLENGES("Digest a = 1 , b\t=\t\"2\"", "Digest a=[1] b=[2]");
    CHECK_CHALLENGES("Digest username*=UTF-8''J%C3%A4s, nc=00000001",
                     "Digest username*=[UTF-8''J%C3%A4s] nc=[00000001]");
}

TEST(a_token68_stands_alone)
{
    CHECK_CHALLENGES("Basic YWJj", "Basic:YWJj");
    CHECK_CHALLENGES("Basic YW==", "Basic:YW==");
    CHECK_CHALLENGES("Basic   a-._~+/9= ", "Basic:a-._~+/9=");
    CHECK_CHALLENGES("Basic realm=", "Basic:realm=");
    CHECK_CHALLENGES("Basic realm=, Digest a=b", "Basic:realm=|Digest a=[b]");
    CHECK_CHALLENGES("Bearer abc.def.ghi , NTLM", "Bearer:abc.def.ghi|NTLM");
    CHECK_CHALLENGES("Basic YWJj, realm=x", "Basic:YWJj!");
    CHECK_CHALLENGES("Basic YW=Jj=", "!");
    CHECK_CHALLENGES("Basic YW== YW==", "!");
    CHECK_CHALLENGES("Basic YWJj realm=x", "!");
    CHECK_CHALLENGES("Basic ==", "!");
    CHECK_CHALLENGES("Basic YWJ!", "!");
    CHECK_CHALLENGES("Basic YWJj;x", "!");
}

TEST(quoted_strings_are_unquoted)
{
    CHECK_CHALLENGES("D a=\"\"", "D a=[]");
    CHECK_CHALLENGES("D a=\"x, y=z\",b=c", "D a=[x, y=z] b=[c]");
    CHECK_CHALLENGES("D a=\"\\\\\\\"\\x\"", "D a=[\\\"x]");
    CHECK_CHALLENGES("D a=\"\\\\\",b=c", "D a=[\\] b=[c]");
    CHECK_CHALLENGES("D a=\"\xe4\t\xff\"", "D a=[\xe4\t\xff]");
    CHECK_CHALLENGES("D a=\"", "!");
    CHECK_CHALLENGES("D a=\"b", "!");
    CHECK_CHALLENGES("D a=\"b\\", "!");
    CHECK_CHALLENGES("D a=\"b\\\"", "!");
    CHECK_CHALLENGES("D a=\"b\"c", "!");
    CHECK_CHALLENGES("D a=\"b\"\"c\"", "!");
    CHECK_CHALLENGES("D a=\"b\x01\"", "!");
    CHECK_CHALLENGES("D a=\"b\\\x7f\"", "!");
}

TEST(broken_grammar_is_refused)
{
    CHECK_CHALLENGES("=", "!");
    CHECK_CHALLENGES("\"Basic\"", "!");
    CHECK_CHALLENGES("Basic=x", "!");
    CHECK_CHALLENGES("realm=\"x\"", "!");
    CHECK_CHALLENGES("Basic/realm=x", "!");
    CHECK_CHALLENGES("Basic,realm=x", "Basic!");
    CHECK_CHALLENGES("Digest Basic realm=x", "!");
    CHECK_CHALLENGES("Digest a=b c=d", "!");
    CHECK_CHALLENGES("Digest a=b; c=d", "!");
    CHECK_CHALLENGES("Digest a==b", "!");
    CHECK_CHALLENGES("Digest a=b, =c", "!");
    CHECK_CHALLENGES("Digest a=b, \"c\"=d", "!");
    CHECK_CHALLENGES("Digest a=b, c=", "!");
    CHECK_CHALLENGES("Digest a=b=c", "!");
    CHECK_CHALLENGES("Digest a=\xff", "!");
    CHECK_CHALLENGES("Digest a=b\x0b, c=d", "!");
    CHECK_CHALLENGES("\xff", "!");
}

TEST(a_parameter_comes_once)
{
    CHECK_CHALLENGES("D a=b, c=d, a=e", "!");
    CHECK_CHALLENGES("D a=b, A=b", "!");
    CHECK_CHALLENGES("D a=b, D a=c", "D a=[b]|D a=[c]");
}

TEST(parameters_are_bounded)
{
    char data[2048] = "D ";
    char expected[2048] = "D";
    size_t length = 2;
    size_t size = 1;
    for (int i = 0; i < TWS_AUTH_PARAMS_MAX; i++) {
        length += (size_t)snprintf(data + length, sizeof(data) - length,
                                   "%sp%d=x", i > 0 ? "," : "", i);
        size += (size_t)snprintf(expected + size, sizeof(expected) - size,
                                 " p%d=[x]", i);
    }
    CHECK_CHALLENGES(data, expected);
    (void)snprintf(data + length, sizeof(data) - length, ",more=x");
    CHECK_CHALLENGES(data, "!");
}

/* Whether `data` is credentials; the scheme then is what `scheme` says. */
static bool
is_credentials(const char *data, const char *scheme)
{
    struct guard guard = guard_copy(data, strlen(data));
    struct tws_span value = {.data = (const char *)guard.data,
                             .length = strlen(data)};
    struct tws_auth auth;
    struct tws_error err = {0};
    enum tws_status status = tws_auth_parse(value, &auth, &err);
    bool result = status == TWS_OK;
    CHECK_INT(status, result ? TWS_OK : TWS_REFUSED);
    CHECK_INT(err.http_status, result ? 0 : 400);
    CHECK(!result || tws_span_equal(auth.scheme, text(scheme)));
    guard_free(&guard);
    return result;
}

TEST(credentials_are_of_one_scheme)
{
    CHECK(is_credentials("Basic YWJj", "Basic"));
    CHECK(is_credentials("digest a=b, c=\"d\"", "digest"));
    CHECK(is_credentials("Bearer x ", "Bearer"));
    CHECK(!is_credentials("", ""));
    CHECK(!is_credentials("  ", ""));
    CHECK(!is_credentials(",Basic YWJj", ""));
    CHECK(!is_credentials("Basic YWJj, Basic YWJj", ""));
    CHECK(!is_credentials("Basic YWJj,", ""));
    CHECK(!is_credentials("Digest a=b, Basic YWJj", ""));
    CHECK(!is_credentials("Basic \x01", ""));
}

TEST(reasons_quote_no_secret)
{
    static const char *const SECRETS[] = {
        "Basic SECRET!",    "Digest a=SECRET;", "SECRET=x",
        "Basic x, SECRET=", "Digest SECRET=\"",
    };
    for (size_t i = 0; i < sizeof(SECRETS) / sizeof(SECRETS[0]); i++) {
        struct tws_auth auth;
        struct tws_error err = {0};
        CHECK_INT(tws_auth_parse(text(SECRETS[i]), &auth, &err), TWS_REFUSED);
        CHECK(strstr(err.reason, "SECRET") == NULL);
    }
}

TEST(values_compare_unquoted)
{
    struct tws_auth auth;
    struct tws_error err;
    CHECK_INT(
        tws_auth_parse(TWS_SPAN("D a=\"x\\y\\\\\", b=Auth"), &auth, &err),
        TWS_OK);
    const struct tws_auth_param *a = tws_auth_find(&auth, TWS_SPAN("A"));
    const struct tws_auth_param *b = tws_auth_find(&auth, TWS_SPAN("b"));
    CHECK(a != NULL && b != NULL);
    CHECK(tws_auth_find(&auth, TWS_SPAN("c")) == NULL);
    CHECK(tws_auth_find(&auth, TWS_SPAN("")) == NULL);
    CHECK(tws_auth_value_is(a, TWS_SPAN("xy\\")));
    CHECK(!tws_auth_value_is(a, TWS_SPAN("xy")));
    CHECK(!tws_auth_value_is(a, TWS_SPAN("xy\\\\")));
    CHECK(!tws_auth_value_is(a, TWS_SPAN("x\\y\\\\")));
    CHECK(!tws_auth_value_is(a, TWS_SPAN("Xy\\")));
    CHECK(tws_auth_value_is_nocase(a, TWS_SPAN("Xy\\")));
    CHECK(tws_auth_value_is_nocase(b, TWS_SPAN("aUTH")));
    CHECK(!tws_auth_value_is(b, TWS_SPAN("auth")));
    CHECK(!tws_auth_value_is_nocase(b, TWS_SPAN("auth-int")));
    CHECK(!tws_auth_value_is_nocase(b, TWS_SPAN("")));
}

TEST(text_is_utf8_without_control_characters)
{
    CHECK(tws_auth_is_text(TWS_SPAN("")));
    CHECK(tws_auth_is_text((struct tws_span){0}));
    CHECK(tws_auth_is_text(TWS_SPAN("Aladdin: open~ sesame")));
    CHECK(tws_auth_is_text(TWS_SPAN("J\xc3\xa4s\xc3\xb8n \xf0\x9f\x99\x82")));
    CHECK(!tws_auth_is_text(TWS_SPAN("a\nb")));
    CHECK(!tws_auth_is_text(TWS_SPAN("a\tb")));
    CHECK(!tws_auth_is_text(TWS_SPAN("\0")));
    CHECK(!tws_auth_is_text(TWS_SPAN("\x1f")));
    CHECK(!tws_auth_is_text(TWS_SPAN("\x7f")));
    CHECK(!tws_auth_is_text(TWS_SPAN("J\xe4sn")));
    CHECK(!tws_auth_is_text(TWS_SPAN("\xc0\xaf")));
    CHECK(!tws_auth_is_text(TWS_SPAN("\xc3")));
}

TEST(a_realm_needs_no_backslash)
{
    CHECK(tws_auth_is_realm(TWS_SPAN("")));
    CHECK(tws_auth_is_realm(TWS_SPAN("my place, a=b; ~!")));
    CHECK(!tws_auth_is_realm(TWS_SPAN("my \"place\"")));
    CHECK(!tws_auth_is_realm(TWS_SPAN("my\\place")));
    CHECK(!tws_auth_is_realm(TWS_SPAN("my\nplace")));
    CHECK(!tws_auth_is_realm(TWS_SPAN("my\tplace")));
    CHECK(!tws_auth_is_realm(TWS_SPAN("\x7f")));
    CHECK(!tws_auth_is_realm(TWS_SPAN("pl\xc3\xa4tz")));
}

/* Long runs of whatever a reader could look at again and again. */
TEST(long_values_take_linear_time)
{
    static const char *const RUNS[] = {",",    " ",      "a",      "=",
                                       "\"",   "\\",     "a ",     "a,",
                                       "a=b,", "D a=b,", "\"\\\"", "D ,"};
    char *data = malloc(LONG);
    CHECK(data != NULL);
    for (size_t r = 0; data != NULL && r < sizeof(RUNS) / sizeof(RUNS[0]);
         r++) {
        size_t unit = strlen(RUNS[r]);
        for (size_t i = 0; i < LONG; i++) {
            data[i] = RUNS[r][i % unit];
        }
        struct tws_auth_walker walker = {
            .rest = {.data = data, .length = LONG}};
        struct tws_auth auth;
        struct tws_error err;
        size_t steps = 0;
        while (tws_auth_next(&walker, &auth, &err) == TWS_OK) {
            steps++;
        }
        CHECK(steps <= LONG);
        (void)tws_auth_parse((struct tws_span){data, LONG}, &auth, &err);
    }
    free(data);
}

RUN(T(challenges_are_walked_in_order), T(a_token68_stands_alone),
    T(quoted_strings_are_unquoted), T(broken_grammar_is_refused),
    T(a_parameter_comes_once), T(parameters_are_bounded),
    T(credentials_are_of_one_scheme), T(reasons_quote_no_secret),
    T(a_realm_needs_no_backslash), T(values_compare_unquoted),
    T(text_is_utf8_without_control_characters),
    T(long_values_take_linear_time))
