# SPDX-License-Identifier: MIT OR GPL-2.0
#
# make [CC=clang] [SAN=asan|tsan] [ATTACK=1] [BUILD=dir] [CROSS_COMPILE=aarch64-linux-gnu-] [CFLAGS=] [CPPFLAGS=] [LDFLAGS=] [V=1]
# ATTACK=1: a library that does to itself, by the seed in MOTE_SEED, what seldom happens: docs/replay.md.
# `make help` lists the targets. A new .c file is found by itself; nothing has to be listed here.

ifeq ($(origin CC),default)
CC := $(CROSS_COMPILE)gcc
endif
AR := $(CROSS_COMPILE)ar
OBJCOPY := $(CROSS_COMPILE)objcopy
SAN ?=
ATTACK ?=
BUILD ?= build$(if $(ATTACK),/attack)$(if $(SAN),/$(SAN))
PREFIX ?= /usr/local
LIBDIR ?= $(PREFIX)/lib
MANDIR ?= $(PREFIX)/share/man
CFLAGS ?= -O2 -g

# base.h is the only place that holds the version: major * 10000 + minor * 100 + patch.
VERSION := $(shell awk '/define MOTE_VERSION/ { printf "%d.%d.%d", $$3 / 10000, $$3 / 100 % 100, $$3 % 100 }' \
	include/mote/base.h)
SONAME := libmote.so.$(firstword $(subst ., ,$(VERSION)))

WARN := -Wall -Wextra -Werror -Wmissing-prototypes -Wstrict-prototypes -Wundef -Wvla
SANFLAGS_asan := -fsanitize=address,undefined -fno-sanitize-recover=undefined
# gcc warns that TSan does not see fences. Ours order a store before a load, which TSan's model does not need.
SANFLAGS_tsan := -fsanitize=thread $(if $(findstring clang,$(CC)),,-Wno-tsan)
# Crash reports walk frame pointers; clash protection makes every overflow touch the guard.
ALL_CFLAGS := -std=gnu11 $(WARN) -fno-omit-frame-pointer -fstack-clash-protection $(SANFLAGS_$(SAN)) $(CFLAGS)
ALL_CPPFLAGS := -D_GNU_SOURCE -Iinclude $(if $(ATTACK),-DMOTE_ATTACK) $(CPPFLAGS)
ALL_LDFLAGS := $(SANFLAGS_$(SAN)) $(LDFLAGS)
LDLIBS := -luring -lpthread
# The library's one __thread variable is read at every call: initial-exec makes that one load in the .so, too.
LIB_CFLAGS := -fPIC -fvisibility=hidden -ftls-model=initial-exec $(if $(ATTACK),-include sched/attack.h)

ARCH := $(firstword $(subst -, ,$(shell $(CC) -dumpmachine)))
# A file named for a machine, x_aarch64.S, is built for that machine only.
machine = $(filter-out %_x86_64.c %_aarch64.c %_x86_64.S %_aarch64.S,$(1)) $(filter %_$(ARCH).c %_$(ARCH).S,$(1))

ROOMS := port sched io core csp otp
LIB_SRC := $(call machine,$(wildcard $(foreach room,$(ROOMS),lib/$(room)/*.c lib/$(room)/*.S)))
LIB_OBJ := $(LIB_SRC:%=$(BUILD)/obj/%.o)
BENCH_OBJ := $(patsubst %,$(BUILD)/obj/%.o,$(wildcard tools/bench/*.c))
KV_OBJ := $(patsubst %,$(BUILD)/obj/%.o,$(wildcard examples/kv/*.c))
# Only jobs wants SQLite (libsqlite3-dev): without, it is left out.
HASH := \#
SQLITE := $(shell printf '$(HASH)include <sqlite3.h>\nint main(void) { return !sqlite3_libversion(); }\n' | \
	$(CC) $(CPPFLAGS) -x c - $(LDFLAGS) -o /dev/null -lsqlite3 2>/dev/null && echo yes)
JOBS_OBJ := $(if $(SQLITE),$(patsubst %,$(BUILD)/obj/%.o,$(wildcard examples/jobs/*.c)))
JOBS := $(if $(JOBS_OBJ),$(BUILD)/examples/jobs)
JOBS_STEPS := $(if $(JOBS_OBJ),$(BUILD)/selftests/jobs/steps)
EXAMPLES := $(patsubst %.c,$(BUILD)/%,$(wildcard examples/*.c)) $(if $(KV_OBJ),$(BUILD)/examples/kv) $(JOBS)
# A folder below selftests/ has programs that tests start; but kmod/ is built the kernel's way, with what make fetches.
TESTS := $(patsubst %.c,$(BUILD)/%,$(filter-out selftests/kmod/% $(if $(SQLITE),,selftests/jobs/%),\
	$(wildcard selftests/*.c selftests/*/*.c)))
BENCH := $(if $(BENCH_OBJ),$(BUILD)/tools/mote-bench)

# One short line per command; none with make -s, all of it with V=1.
say = $(if $(V),,@$(if $(findstring s,$(filter-out -%,$(firstword $(MAKEFLAGS)))),,echo '  $(1)      $@';))

.PHONY: all lib selftests kmod-tests check check-all check-debug module module-install module-dkms bench bench-lab install clean help FORCE
.DELETE_ON_ERROR:

all: lib $(BENCH) $(EXAMPLES) selftests
	@$(if $(SQLITE),:,echo 'examples/jobs and its tests are left out: there is no SQLite to build with (libsqlite3-dev)')

lib: $(BUILD)/libmote.a $(BUILD)/libmote.so $(BUILD)/mote.pc

selftests: $(TESTS)

# Anything built with other flags is built again.
$(BUILD)/flags: FORCE
	@mkdir -p $(@D)
	@echo '$(CC) $(ALL_CFLAGS) $(LIB_CFLAGS) $(ALL_CPPFLAGS) $(ALL_LDFLAGS) $(TEXT)' | cmp -s - $@ || \
	 echo '$(CC) $(ALL_CFLAGS) $(LIB_CFLAGS) $(ALL_CPPFLAGS) $(ALL_LDFLAGS) $(TEXT)' > $@

# The library's code gets sections of its own, so that it can tell itself from the program that it is linked into.
TEXT := $(foreach section,.text .text.unlikely .text.hot .text.startup,--rename-section $(section)=mote_text)

$(BUILD)/obj/lib/%.o: lib/% $(BUILD)/flags
	@mkdir -p $(@D)
	$(call say,CC)$(CC) $(ALL_CPPFLAGS) -Ilib $(ALL_CFLAGS) $(LIB_CFLAGS) -MMD -MP -c -o $@ $<
	$(if $(V),,@)$(OBJCOPY) $(TEXT) $@

# Tests may look inside.
$(BUILD)/obj/selftests/%.o: ALL_CPPFLAGS += -Ilib

$(BUILD)/obj/%.o: % $(BUILD)/flags
	@mkdir -p $(@D)
	$(call say,CC)$(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

$(BUILD)/libmote.a: $(LIB_OBJ)
	@rm -f $@
	$(call say,AR)$(AR) rcs $@ $^

# A sanitizer's runtime is in the program: there the library may leave symbols undefined.
$(BUILD)/libmote.so: $(LIB_OBJ) lib/libmote.map
	$(call say,LD)$(CC) -shared -Wl,-soname,$(SONAME) -Wl,--version-script,lib/libmote.map $(if $(SAN),,-Wl,-z,defs) \
		$(ALL_LDFLAGS) -o $@ $(LIB_OBJ) $(LDLIBS)
	@ln -sf libmote.so $(BUILD)/$(SONAME)

# Made anew each time: `make install PREFIX=` may follow a `make` without.
$(BUILD)/mote.pc: lib/mote.pc.in FORCE
	@mkdir -p $(@D)
	@sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@LIBDIR@|$(LIBDIR)|' -e 's|@VERSION@|$(VERSION)|' $< > $@

# Our own programs take the static library: they run from the build directory, and tests may look inside.
$(BENCH): $(BENCH_OBJ)
$(BUILD)/examples/kv: $(KV_OBJ)
$(JOBS) $(JOBS_STEPS): $(JOBS_OBJ)
$(JOBS) $(JOBS_STEPS): LDLIBS += -lsqlite3
$(filter-out $(BUILD)/examples/kv $(JOBS),$(EXAMPLES)) $(TESTS): $(BUILD)/%: $(BUILD)/obj/%.c.o
$(BENCH) $(EXAMPLES) $(TESTS): $(BUILD)/libmote.a
	@mkdir -p $(@D)
	$(call say,LD)$(CC) $(ALL_LDFLAGS) -o $@ $(filter %.o,$^) $(BUILD)/libmote.a $(LDLIBS) -lm

check:				## the quick checks: build, rooms, headers, every test once (minutes)
	sh tools/check quick

check-all:			## tools/check, and what takes longer: more rounds, more cuts
	sh tools/check all

kmod-tests:			## the module's own tests, to be run in a guest; KSELFTEST= the kernel's tools/testing/selftests
	@mkdir -p $(BUILD)/selftests/kmod
	+kselftest=$(KSELFTEST); \
	[ "$$kselftest" ] || kselftest=$$(tools/lab/fetch kselftest)/linux/tools/testing/selftests && \
	$(MAKE) -C selftests/kmod KSELFTEST="$$kselftest" OUTPUT=$(abspath $(BUILD))/selftests/kmod \
		KHDR_INCLUDES=-I$(CURDIR)/include/uapi

check-debug: selftests		## the module's suite in a guest with KASAN, lockdep, kmemleak, fault injection (builds a kernel)
	GUEST_KERNEL=debug selftests/run -c debug -t 3600 BUILD=$(BUILD) selftests/guest.sh

# The kernel's build writes beside the sources, and takes none of our make's variables.
KDIR ?= /lib/modules/$(shell uname -r)/build
MODULE = MAKEFLAGS= $(MAKE) -C $(KDIR) M=$(abspath $(BUILD))/module

module:				## mote.ko for the running kernel, or for that of KDIR=
	rm -rf $(BUILD)/module
	mkdir -p $(BUILD)/module
	cp -r --parents Kbuild kmod include/uapi $(BUILD)/module
	$(MODULE) modules

module-install: module		## where modprobe finds it
	$(MODULE) modules_install
	depmod -a

module-dkms:			## the module's sources into $(DESTDIR)/usr/src, for dkms to build for each kernel
	install -d $(DESTDIR)/usr/src/mote-$(VERSION)
	cp -r --parents Kbuild kmod include/uapi $(DESTDIR)/usr/src/mote-$(VERSION)
	sed 's|@VERSION@|$(VERSION)|' dkms.conf > $(DESTDIR)/usr/src/mote-$(VERSION)/dkms.conf

# Wants no library of ours: it measures the kernel.
$(BUILD)/tools/wake: $(wildcard tools/bench/guest/*.c tools/bench/guest/*.h) include/uapi/linux/mote.h
	@mkdir -p $(@D)
	$(call say,LD)$(CC) -D_GNU_SOURCE -Iinclude/uapi $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $(filter %.c,$^) $(LDLIBS)

bench-lab: $(BUILD)/tools/wake	## what waking another OS process costs, in instructions, on each kernel
	BUILD=$(BUILD) tools/bench/lab

bench: $(BENCH)			## the table of figures, with peers beside it
	BUILD=$(BUILD) tools/bench/compare

install: lib			## into $(DESTDIR)$(PREFIX): library, headers, mote.pc, man pages
	install -d $(DESTDIR)$(LIBDIR)/pkgconfig $(DESTDIR)$(PREFIX)/include/mote
	install -m 644 $(BUILD)/libmote.a $(DESTDIR)$(LIBDIR)
	install -m 755 $(BUILD)/libmote.so $(DESTDIR)$(LIBDIR)/libmote.so.$(VERSION)
	ln -sf libmote.so.$(VERSION) $(DESTDIR)$(LIBDIR)/$(SONAME)
	ln -sf $(SONAME) $(DESTDIR)$(LIBDIR)/libmote.so
	install -m 644 $(BUILD)/mote.pc $(DESTDIR)$(LIBDIR)/pkgconfig
	install -m 644 include/mote.h $(DESTDIR)$(PREFIX)/include
	install -m 644 include/mote/*.h $(DESTDIR)$(PREFIX)/include/mote
	install -d $(DESTDIR)$(MANDIR)/man3 $(DESTDIR)$(MANDIR)/man7
	install -m 644 man/*.3 $(DESTDIR)$(MANDIR)/man3
	install -m 644 man/*.7 $(DESTDIR)$(MANDIR)/man7
	# A page is found by each of the functions that it names.
	sed -n 's/^\.Nm \(mote_[a-z0-9_]*\).*/\1/p;s/^\.Dt \([A-Z0-9_]*\) 3/page \1/p' man/*.3 | \
		while read -r name page; do \
			if [ "$$page" ]; then target=$$(echo $$page | tr A-Z a-z).3; \
			elif [ $$name.3 != $$target ]; then ln -sf $$target $(DESTDIR)$(MANDIR)/man3/$$name.3; fi; \
		done

clean:				## remove build/, but for the guests' kernels (build/cache)
	[ ! -d $(BUILD) ] || find $(BUILD) -mindepth 1 -maxdepth 1 ! -name cache -exec rm -rf {} +

help:				## this list
	@echo 'make                          library, mote.pc, tools, examples and selftests, into $(BUILD)/'
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/\1|\2/p' Makefile | awk -F'|' '{ printf "make %-24s %s\n", $$1, $$2 }'
	@echo 'CC=clang SAN=asan|tsan ATTACK=1 BUILD=dir CROSS_COMPILE=aarch64-linux-gnu- PREFIX= DESTDIR='

-include $(patsubst %.o,%.d,$(LIB_OBJ) $(BENCH_OBJ) $(KV_OBJ) $(JOBS_OBJ) \
	$(TESTS:$(BUILD)/%=$(BUILD)/obj/%.c.o) $(EXAMPLES:$(BUILD)/%=$(BUILD)/obj/%.c.o))
