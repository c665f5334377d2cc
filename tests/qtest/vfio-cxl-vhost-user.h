/*
 * A vhost-user back-end that notes which memory it is given
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef VFIO_CXL_VHOST_USER_H
#define VFIO_CXL_VHOST_USER_H

typedef struct VhostUser VhostUser;

/**
 * vhost_user_new() - Wait for a front-end, in a thread
 * @path: of the socket to listen on
 * @slots: take memory region by region, not as a table
 */
VhostUser *vhost_user_new(const char *path, bool slots);

/* The front-end has disconnected, or never connected */
void vhost_user_free(VhostUser *user);

/* Wait until queues have been enabled @count times */
void vhost_user_wait_enabled(VhostUser *user, unsigned count);

/* Check whether its current memory contains this address */
bool vhost_user_has(VhostUser *user, uint64_t address);

/* Check whether it was ever given any of these @size bytes */
bool vhost_user_had(VhostUser *user, uint64_t address, uint64_t size);

#endif /* VFIO_CXL_VHOST_USER_H */
