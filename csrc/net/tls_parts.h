/* What the files of TLS share: the structs behind net/tls_context.h and
 * net/tls.h. Needs OpenSSL 3.0 or newer. */
#ifndef TWS_NET_TLS_PARTS_H
#define TWS_NET_TLS_PARTS_H

#include "net/tls.h"
#include "net/tls_context.h"
#include "net/tls_session_cache.h"
#include "protocol/buffer.h"

#include <openssl/ssl.h>
#include <pthread.h>
#include <stdatomic.h>

#if OPENSSL_VERSION_NUMBER < 0x30000000L
#error "twspy needs OpenSSL 3.0 or newer"
#endif

/* What an identity shows: its SSL_CTX is the first one's twin, but for the
 * certificate. */
struct tws_tls_site {
    char *name; /* owned, without a dot at its end; "" is the default one */
    SSL_CTX *ssl_context; /* owned */
};

struct tws_tls_context {
    atomic_uint references;
    enum tws_role role;
    bool verify;
    struct tws_tls_site *sites; /* owned; new connections start with the
                                 * first one, whose ticket keys count */
    size_t site_count;
    BIO_METHOD *bio_method; /* owned */
    uint8_t *alpn;          /* owned; in wire form */
    size_t alpn_length;
    struct tws_tls_session_cache sessions; /* a client's */
};

enum {
    /* Ciphertext above this leaves at once: three full records, which the
     * buffer holds in 64 KiB. */
    TWS_TLS_FLUSH_AT = 48 * 1024,
    /* What a peer that reads nothing may make us queue in answers. */
    TWS_TLS_OUT_LIMIT = 256 * 1024,
    /* Read beyond the room of the caller, for headers, padding and records
     * without data. */
    TWS_TLS_SURPLUS = 32 * 1024,
    /* Records in a row without a byte of data (key updates, tickets, refused
     * renegotiations). */
    TWS_TLS_BARREN_RECORDS = 64,
};

struct tws_tls {
    pthread_mutex_t lock;            /* over all that follows but `more` */
    SSL *ssl;                        /* owned */
    struct tws_tls_context *context; /* a reference */
    struct tws_transport inner;
    struct tws_buffer out; /* ciphertext that has not left */
    char *host; /* expected of the server; owned, NULL once it is known */
    char *session_key; /* owned; NULL: no session is remembered */
    size_t budget;     /* bytes that this operation may still read */
    unsigned barren;   /* records since the last byte of data */
    unsigned stalled;  /* writes that had to wait for a read, in a row */
    uint8_t head[8];   /* the first bytes that came */
    uint8_t head_length;
    bool shaken;      /* the handshake is done, but for what is in `out` */
    bool secured;     /* and that has left */
    bool dry;         /* this operation has emptied the inner transport */
    bool blocked;     /* ... has found no room for all of `out` */
    bool eof;         /* the inner transport has ended */
    bool owed;        /* the first byte that is written next was already
                       * encrypted */
    bool ending;      /* the inner transport's end is to follow `out` */
    atomic_bool more; /* see the operation `pending` */
    struct tws_error error; /* what every call fails with; TWS_OK: nothing */
};

/* tls_bio.c: between OpenSSL and the inner transport. With the lock held. */
BIO_METHOD *tws_tls_bio_method(void); /* NULL: out of memory */
/* Before each use of tls->ssl that may read. */
void tws_tls_begin_lock_held(struct tws_tls *tls, size_t room);
/* Writes `out`. TWS_OK: it is empty; TWS_AGAIN; what the inner transport
 * failed with. */
enum tws_status tws_tls_flush_lock_held(struct tws_tls *tls,
                                        struct tws_error *err);

/* tls_handshake.c. With the lock held. */
/* What the server's certificate is to be for, and SNI. `host` is copied. */
enum tws_status tws_tls_expect_host_lock_held(struct tws_tls *tls,
                                              const char *host,
                                              struct tws_error *err);
/* See the operation `secure`. */
enum tws_status tws_tls_shake_lock_held(struct tws_tls *tls, unsigned *events,
                                        struct tws_error *err);
/* After an OpenSSL call that neither succeeded nor can go on: notes why, for
 * all calls to come, and tells the peer. TWS_EOF where it has just ended. */
enum tws_status tws_tls_fail_lock_held(struct tws_tls *tls,
                                       struct tws_error *err);

/* tls_site.c: what a ClientHello is answered with. Callbacks of OpenSSL;
 * `argument` is the context. */
int tws_tls_select_site(SSL *ssl, int *alert, void *argument);
int tws_tls_select_protocol(SSL *ssl, const unsigned char **selected,
                            unsigned char *selected_length,
                            const unsigned char *offered,
                            unsigned offered_length, void *argument);

#endif /* TWS_NET_TLS_PARTS_H */
