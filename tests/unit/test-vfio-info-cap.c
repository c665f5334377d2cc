/*
 * Capability chains in VFIO's replies
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "hw/vfio/info-cap.h"

#define FIRST 16

/* A reply whose chain begins at FIRST and may go wrong at its end */
typedef struct Reply {
    uint8_t head[FIRST];
    struct {
        struct vfio_info_cap_header header;
        uint32_t data[2];
    } cap[3];
} Reply;

static uint32_t cap_offset(unsigned n)
{
    return FIRST + n * sizeof(((Reply *)NULL)->cap[0]);
}

static Reply make_reply(uint32_t last_next)
{
    Reply reply = { };

    for (unsigned n = 0; n < 3; n++) {
        reply.cap[n].header.id = n + 1;
        reply.cap[n].header.version = 1;
        reply.cap[n].header.next = n < 2 ? cap_offset(n + 1) : last_next;
    }
    return reply;
}

static void test_find(void)
{
    Reply reply = make_reply(0);
    uint32_t length;

    for (unsigned n = 0; n < 3; n++) {
        g_assert_true(vfio_info_find_cap(&reply, sizeof(reply), FIRST, n + 1,
                                         &length) == &reply.cap[n].header);
        g_assert_cmpuint(length, ==, sizeof(reply.cap[n]));
    }
    g_assert_null(vfio_info_find_cap(&reply, sizeof(reply), FIRST, 4,
                                     &length));
    g_assert_null(vfio_info_find_cap(&reply, sizeof(reply), 0, 1, &length));
}

static void test_bad_chain(void)
{
    const uint32_t bad[] = {
        FIRST,                      /* a loop */
        cap_offset(2),              /* a loop of one */
        cap_offset(2) + 4,          /* overlaps itself */
        cap_offset(2) + 9,          /* unaligned */
        sizeof(Reply) - 4,          /* half a header is left */
        sizeof(Reply),
        UINT32_MAX - 3,
    };
    uint32_t length;

    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        Reply reply = make_reply(bad[i]);

        g_assert_null(vfio_info_find_cap(&reply, sizeof(reply), FIRST, 4,
                                         &length));
    }
}

static void test_short_reply(void)
{
    Reply reply = make_reply(0);
    uint32_t length;

    g_assert_null(vfio_info_find_cap(&reply, cap_offset(2), FIRST, 3,
                                     &length));
    g_assert_nonnull(vfio_info_find_cap(&reply, cap_offset(2) + 12, FIRST, 3,
                                        &length));
    g_assert_cmpuint(length, ==, 12);
}

static void test_sparse(void)
{
    static const struct {
        uint32_t count;
        uint64_t offset;
        uint64_t size;
        bool fits;
    } cases[] = {
        { 1, 0, 0x10000, true },
        { 1, 0xf000, 0x1000, true },
        { 1, 0x10000, 0, true },
        { 1, 0xf000, 0x1001, false },
        { 1, 0x10001, 0, false },
        { 1, 0x1000, UINT64_MAX, false },
        { 2, 0, 0x1000, false },        /* more than the reply has */
        { UINT32_MAX, 0, 0x1000, false },
    };
    struct {
        struct vfio_region_info info;
        struct vfio_region_info_cap_sparse_mmap sparse;
        struct vfio_region_sparse_mmap_area area;
    } reply = { };

    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        reply.info.argsz = sizeof(reply);
        reply.info.size = 0x10000;
        reply.sparse.nr_areas = cases[i].count;
        reply.area.offset = cases[i].offset;
        reply.area.size = cases[i].size;
        g_assert_true(vfio_info_sparse_fits(&reply.info, &reply.sparse) ==
                      cases[i].fits);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/vfio/info-cap/find", test_find);
    g_test_add_func("/vfio/info-cap/bad-chain", test_bad_chain);
    g_test_add_func("/vfio/info-cap/short-reply", test_short_reply);
    g_test_add_func("/vfio/info-cap/sparse", test_sparse);
    return g_test_run();
}
