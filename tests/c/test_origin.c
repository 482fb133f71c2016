#include "guard.h"
#include "harness.h"
#include "protocol/origin.h"

static struct tws_span
text(const char *data)
{
    return (struct tws_span){.data = data, .length = strlen(data)};
}

/* The origin ends at a guard page. */
static bool
allowed(const struct tws_origins *origins, const char *origin,
        const char *host, bool secure)
{
    struct guard guard = guard_copy(origin, strlen(origin));
    struct tws_span copy = {.data = (const char *)guard.data,
                            .length = strlen(origin)};
    bool result = tws_origin_allowed(origins, copy, text(host), secure);
    guard_free(&guard);
    return result;
}

static bool
same(const char *origin, const char *host, bool secure)
{
    const struct tws_origins origins = {.policy = TWS_ORIGIN_SAME};
    return allowed(&origins, origin, host, secure);
}

static bool
listed(const char *origin)
{
    const struct tws_span list[] = {
        TWS_SPAN("http://example.com"),
        TWS_SPAN("https://secure.example:443"),
        TWS_SPAN("http://other.example:8080"),
        TWS_SPAN("http://[2001:db8::1]:80"),
        TWS_SPAN("chrome-extension://abcdef"),
    };
    const struct tws_origins origins = {.policy = TWS_ORIGIN_LIST,
                                        .list = list,
                                        .count = TWS_ARRAY_SIZE(list)};
    return allowed(&origins, origin, "example.com", false);
}

/* What must never pass for http://example.com, whatever the policy. */
static const char *const TRICKS[] = {
    "http://example.com.evil.org",
    "http://example.comevil.org",
    "http://evil-example.com",
    "http://evil.org/http://example.com",
    "http://evil.example.com",
    "http://example.co",
    "http://xample.com",
    "http://example.com@evil.org",
    "http://evil.org@example.com",
    "http://example.com:81",
    "http://example.com:8",
    "http://example.com:800",
    "http://example.com:080",
    "http://example.com:65616", /* 80 modulo 65536 */
    "http://example.com:4294967376",
    "http://example.com:+80",
    "http://example.com: 80",
    "http://example.com:80 ",
    "http://example.com:",
    "http://example.com:80:80",
    "http://example.com.",
    "http://example.com/",
    "http://example.com/path",
    "http://example.com?",
    "http://example.com#",
    "http://example.com\\",
    "http://example.com%00",
    "http:///example.com",
    "http:/example.com",
    "http:example.com",
    "http//example.com",
    "://example.com",
    "//example.com",
    "example.com",
    "example.com:80",
    "ws://example.com",
    "httpx://example.com",
    "xhttp://example.com",
    "htt://example.com",
    "http ://example.com",
    " http://example.com",
    "http://example.com ",
    "http:// example.com",
    "http://",
    "http://:80",
    "http://*",
    "*",
    "",
    "null",
    "NULL",
    "http://null",
    "http://example.com http://evil.org",
    "http://evil.org http://example.com",
    "http://evil.org,http://example.com",
    "http://example.com, http://example.com",
    "http://example.com,",
    "http://ex\xc3\xa4mple.com",
    "http://example.com\xff",
    "http://example.com\x80",
    "http\x80://example.com",
    "http://\xff",
    "http://[example.com]",
    "http://[example.com",
    "http://example.com]",
    "http://[]",
    "http://[",
};

TEST(origin_tricks_fail_the_list)
{
    CHECK(listed("http://example.com"));
    for (size_t i = 0; i < TWS_ARRAY_SIZE(TRICKS); i++) {
        if (listed(TRICKS[i])) {
            fprintf(stderr, "passes: \"%s\"\n", TRICKS[i]);
            CHECK(false);
        }
    }
}

TEST(origin_tricks_fail_same_origin)
{
    static const char *const HOSTS[] = {"example.com", "example.com:80",
                                        "EXAMPLE.com"};
    for (size_t h = 0; h < TWS_ARRAY_SIZE(HOSTS); h++) {
        CHECK(same("http://example.com", HOSTS[h], false));
        for (size_t i = 0; i < TWS_ARRAY_SIZE(TRICKS); i++) {
            if (same(TRICKS[i], HOSTS[h], false)
                || same(TRICKS[i], HOSTS[h], true)) {
                fprintf(stderr, "passes: \"%s\"\n", TRICKS[i]);
                CHECK(false);
            }
        }
    }
}

TEST(every_byte_added_anywhere_fails_the_list)
{
    static const char GOOD[] = "http://example.com";
    for (int byte = 1; byte <= 0xff; byte++) {
        for (size_t i = 0; i < sizeof(GOOD); i++) {
            char origin[sizeof(GOOD) + 1];
            memcpy(origin, GOOD, i);
            origin[i] = (char)byte;
            memcpy(origin + i + 1, GOOD + i, sizeof(GOOD) - i);
            CHECK(!listed(origin));
        }
    }
}

TEST(scheme_and_host_compare_without_case)
{
    CHECK(listed("HTTP://EXAMPLE.COM"));
    CHECK(listed("http://Other.Example:8080"));
    CHECK(same("hTTp://EXAMPLE.com", "example.COM", false));
    CHECK(listed("http://[2001:DB8::1]"));
}

TEST(default_port_equals_its_absence_both_ways)
{
    CHECK(listed("http://example.com:80"));
    CHECK(listed("https://secure.example"));
    CHECK(listed("https://secure.example:443"));
    CHECK(listed("http://[2001:db8::1]"));
    CHECK(!listed("https://secure.example:80"));
    CHECK(!listed("http://secure.example:443"));
    CHECK(!listed("https://example.com"));
    CHECK(!listed("https://example.com:80"));
    CHECK(!listed("http://other.example"));
    /* No default for a scheme that has none. */
    CHECK(listed("chrome-extension://abcdef"));
    CHECK(!listed("chrome-extension://abcdef:80"));

    CHECK(same("http://a.example:80", "a.example", false));
    CHECK(same("http://a.example", "a.example:80", false));
    CHECK(same("http://a.example", "a.example:", false));
    CHECK(same("https://a.example:443", "a.example", true));
    CHECK(same("https://a.example", "a.example:443", true));
    CHECK(same("http://a.example:8080", "a.example:8080", false));
    CHECK(!same("http://a.example:8080", "a.example", false));
    CHECK(!same("http://a.example", "a.example:8080", false));
    CHECK(!same("http://a.example:443", "a.example", false));
    CHECK(!same("https://a.example", "a.example:80", true));
}

TEST(same_origin_wants_https_where_the_connection_is_tls)
{
    CHECK(!same("http://a.example", "a.example", true));
    CHECK(!same("http://a.example:443", "a.example:443", true));
    /* A TLS-ending proxy in front: the page is https, we are not. */
    CHECK(same("https://a.example", "a.example", false));
    CHECK(!same("ftp://a.example", "a.example", false));
    CHECK(!same("wss://a.example", "a.example", true));
}

TEST(ipv6_literals_in_host)
{
    CHECK(same("http://[::1]:8080", "[::1]:8080", false));
    CHECK(same("http://[::1]", "[::1]:80", false));
    CHECK(same("http://[FE80::A]", "[fe80::a]", false));
    CHECK(!same("http://[::1]:8080", "[::1]", false));
    CHECK(!same("http://[::1]", "[::2]", false));
    CHECK(!same("http://[::1]", "::1", false));
    CHECK(!same("http://::1", "[::1]", false));
    CHECK(!same("http://[::1]x", "[::1]x", false));
    CHECK(!same("http://[::1", "[::1", false));
}

TEST(same_origin_without_a_usable_host_fails)
{
    CHECK(!same("http://a.example", "", false));
    CHECK(!same("http://a.example", ":80", false));
    CHECK(!same("http://a.example", "a.example, a.example", false));
    CHECK(!same("http://a.example", "a.example/", false));
    CHECK(!same("http://a.example", "evil@a.example", false));
    CHECK(!same("null", "null", false));
    CHECK(!same("", "", false));
}

TEST(null_matches_only_an_entry_spelt_null)
{
    const struct tws_span list[] = {TWS_SPAN("http://a.example"),
                                    TWS_SPAN("null")};
    struct tws_origins origins = {
        .policy = TWS_ORIGIN_LIST, .list = list, .count = 2};
    CHECK(allowed(&origins, "null", "a.example", false));
    CHECK(!allowed(&origins, "Null", "a.example", false));
    CHECK(!allowed(&origins, "nul", "a.example", false));
    CHECK(!allowed(&origins, "null null", "a.example", false));
    origins.count = 1;
    CHECK(!allowed(&origins, "null", "a.example", false));
    origins.count = 0;
    CHECK(!allowed(&origins, "http://a.example", "a.example", false));
}

TEST(any_asks_nothing)
{
    const struct tws_origins origins = {.policy = TWS_ORIGIN_ANY};
    CHECK(allowed(&origins, "null", "", true));
    CHECK(allowed(&origins, "http://evil.org", "a.example", true));
}

TEST(list_entries_must_look_like_origins)
{
    CHECK(tws_origin_valid(text("http://example.com")));
    CHECK(tws_origin_valid(text("HTTPS://EXAMPLE.COM:8443")));
    CHECK(tws_origin_valid(text("http://[::1]:1")));
    CHECK(tws_origin_valid(text("http://a:65535")));
    CHECK(tws_origin_valid(text("null")));
    CHECK(tws_origin_valid(text("app+x.y-1://host")));
    CHECK(!tws_origin_valid(text("")));
    CHECK(!tws_origin_valid(text("*")));
    CHECK(!tws_origin_valid(text("example.com")));
    CHECK(!tws_origin_valid(text("http://example.com/")));
    CHECK(!tws_origin_valid(text("http://*.example.com")));
    CHECK(!tws_origin_valid(text("http://a:0")));
    CHECK(!tws_origin_valid(text("http://a:65536")));
    CHECK(!tws_origin_valid(text("http://a:")));
    CHECK(!tws_origin_valid(text("1http://a")));
    CHECK(!tws_origin_valid(text("http://a b")));
    CHECK(!tws_origin_valid(TWS_SPAN("http://a\0b")));
}

TEST(host_is_a_name_or_address_and_a_port)
{
    CHECK(tws_host_valid(text("example.com")));
    CHECK(tws_host_valid(text("my_host~1:80")));
    CHECK(tws_host_valid(text("example.com:")));
    CHECK(tws_host_valid(text("[::ffff:1.2.3.4]:9001")));
    CHECK(tws_host_valid(text("[fe80::1%25eth0]:80")));
    CHECK(!tws_host_valid(text("")));
    CHECK(!tws_host_valid(text(":80")));
    CHECK(!tws_host_valid(text("a b")));
    CHECK(!tws_host_valid(text("a,b")));
    CHECK(!tws_host_valid(text("a@b")));
    CHECK(!tws_host_valid(text("a/b")));
    CHECK(!tws_host_valid(text("a\\b")));
    CHECK(!tws_host_valid(text("http://a")));
    CHECK(!tws_host_valid(text("a:80:80")));
    CHECK(!tws_host_valid(text("a:99999")));
    CHECK(!tws_host_valid(text("::1")));
    CHECK(!tws_host_valid(text("[]")));
    CHECK(!tws_host_valid(text("[%25eth0]")));
    CHECK(!tws_host_valid(text("[::1")));
    CHECK(!tws_host_valid(text("[::1]a")));
    CHECK(!tws_host_valid(text("h\xf6st")));
}

RUN(T(origin_tricks_fail_the_list), T(origin_tricks_fail_same_origin),
    T(every_byte_added_anywhere_fails_the_list),
    T(scheme_and_host_compare_without_case),
    T(default_port_equals_its_absence_both_ways),
    T(same_origin_wants_https_where_the_connection_is_tls),
    T(ipv6_literals_in_host), T(same_origin_without_a_usable_host_fails),
    T(null_matches_only_an_entry_spelt_null), T(any_asks_nothing),
    T(list_entries_must_look_like_origins),
    T(host_is_a_name_or_address_and_a_port))
