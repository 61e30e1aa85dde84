/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * core/symbol.h: what an address is called.
 */
#ifndef CORE_SYMBOL_H
#define CORE_SYMBOL_H

#include <stddef.h>
#include <stdint.h>

/*
 * Writes "function+0x12", or "library.so+0x1234" where the file has no name for it, or "0x1234" where no file
 * is there. Reads the object's file each time; async-signal-safe: system calls only, no locks, no memory.
 * Returns the length, as snprintf() does; buf is terminated.
 */
size_t symbol_format(uintptr_t pc, char *buf, size_t size);

#endif
