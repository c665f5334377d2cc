/*
 * Shared by the tests of vfio-sim
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef VFIO_SIM_TEST_UTIL_H
#define VFIO_SIM_TEST_UTIL_H

#include <errno.h>
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#define ok(expr) g_assert_cmpint((expr), ==, 0)
#define fails(expr, err) \
    do { \
        errno = 0; \
        g_assert_cmpint((expr), ==, -1); \
        g_assert_cmpint(errno, ==, (err)); \
    } while (0)
#define map_fails(expr, err) \
    do { \
        errno = 0; \
        g_assert_true((expr) == MAP_FAILED); \
        g_assert_cmpint(errno, ==, (err)); \
    } while (0)

/* Reads a mapped dword; false if that raises SIGBUS */
bool touch(volatile uint32_t *p, uint32_t *value);
/* Does the same for the dword that contains @p */
bool accessible(const void *p);

/* vfio-sim's control channel; replies are one line and to be freed */
int control_connect_to(const char *name);
int control_connect(void);
char *control_reply(int fd);
char *control(const char *fmt, ...) G_GNUC_PRINTF(1, 2);
/* For a command that returns nothing, and has to succeed */
void control_ok(const char *fmt, ...) G_GNUC_PRINTF(1, 2);
/* The first number called @key in @reply */
uint64_t number(const char *reply, const char *key);
uint64_t stat_of(const char *host, const char *name);

#endif /* VFIO_SIM_TEST_UTIL_H */
