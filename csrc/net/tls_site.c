/* What a server answers a ClientHello with: the certificate for the name
 * that is asked for (RFC 6066 §3), and a protocol (RFC 7301). */
#include "net/tls_parts.h"

static bool
same_name(const char *a, const char *b)
{
    return tws_span_equal_nocase(
        (struct tws_span){.data = a, .length = strlen(a)},
        (struct tws_span){.data = b, .length = strlen(b)});
}

/* "*.example.org" is for one label more, not for "example.org" (RFC 9525
 * §6.3). */
static bool
wildcard_fits(const char *pattern, const char *name)
{
    const char *dot = strchr(name, '.');
    return pattern[0] == '*' && pattern[1] == '.' && dot != NULL && dot != name
           && same_name(pattern + 1, dot);
}

static const struct tws_tls_site *
find_site(const struct tws_tls_context *context, const char *name)
{
    const struct tws_tls_site *found = NULL;
    for (size_t i = 0; i < context->site_count; i++) {
        const struct tws_tls_site *site = &context->sites[i];
        if (same_name(site->name, name)) {
            return site;
        }
        if (found == NULL && wildcard_fits(site->name, name)) {
            found = site;
        }
    }
    return found;
}

int
tws_tls_select_site(SSL *ssl, int *alert, void *argument)
{
    const struct tws_tls_context *context = argument;
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    (void)alert;
    if (name == NULL || name[0] == '\0') {
        return SSL_TLSEXT_ERR_NOACK;
    }
    const struct tws_tls_site *site = find_site(context, name);
    if (site == NULL) {
        return SSL_TLSEXT_ERR_NOACK; /* the default one answers */
    }
    /* All of them have the same settings, and those that belong to the SSL
     * object stay. */
    if (site->ssl_context != context->sites[0].ssl_context
        && SSL_set_SSL_CTX(ssl, site->ssl_context) == NULL) {
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    }
    return SSL_TLSEXT_ERR_OK;
}

/* A name of `offered` that equals the one given, or NULL. Both lists are well
 * formed: OpenSSL has checked the peer's, and we ours. */
static const unsigned char *
find_protocol(const unsigned char *offered, unsigned offered_length,
              const uint8_t *name, uint8_t length)
{
    for (unsigned at = 0; at < offered_length; at += 1U + offered[at]) {
        if (offered[at] == length
            && memcmp(offered + at + 1, name, length) == 0) {
            return offered + at + 1;
        }
    }
    return NULL;
}

int
tws_tls_select_protocol(SSL *ssl, const unsigned char **selected,
                        unsigned char *selected_length,
                        const unsigned char *offered, unsigned offered_length,
                        void *argument)
{
    const struct tws_tls_context *context = argument;
    (void)ssl;
    for (size_t at = 0; at < context->alpn_length;
         at += 1U + context->alpn[at]) {
        const unsigned char *found =
            find_protocol(offered, offered_length, context->alpn + at + 1,
                          context->alpn[at]);
        if (found != NULL) {
            *selected = found;
            *selected_length = context->alpn[at];
            return SSL_TLSEXT_ERR_OK;
        }
    }
    /* RFC 7301 §3.2: no_application_protocol. */
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}
