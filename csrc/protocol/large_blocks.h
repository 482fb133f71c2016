/* A large message is memory that comes and goes. glibc gives such blocks back
 * to the system at once, and takes them page by page again, which costs more
 * than everything else about the message: until the first time that one of
 * that size is freed. */
#ifndef TWS_PROTOCOL_LARGE_BLOCKS_H
#define TWS_PROTOCOL_LARGE_BLOCKS_H

/* Messages from here on are what it is for: bytes. */
enum { TWS_LARGE_MESSAGE = 128 * 1024 };

/* From here on freed memory of up to 8 MiB a block is used again; twice as
 * much of it may stay with each of glibc's arenas. Costs some microseconds,
 * and does nothing where the program has set M_MMAP_THRESHOLD itself, or with
 * another allocator. Any thread may call. */
void tws_keep_large_blocks(void);

#endif /* TWS_PROTOCOL_LARGE_BLOCKS_H */
