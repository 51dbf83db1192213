/*
 * kvm.h - kernel crash dumps as memory: the interface of FreeBSD's kvm(3).
 *
 * Names, types and members are FreeBSD's, so that programs compile unchanged; kvm_open(3) and the
 * other man pages say what each function does here.
 */
#ifndef KVMCORE_KVM_H
#define KVMCORE_KVM_H

#include <sys/types.h>
#include <stddef.h>
#include <stdint.h>
#ifdef __FreeBSD__
#include <sys/param.h>
#include <sys/sysctl.h>
#include <sys/user.h>
#include <vm/vm.h>
#include <nlist.h>
#else
#include <sys/resource.h>
#include <sys/time.h>
#include "nlist.h"
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef uint64_t kvaddr_t;	/* a virtual address of any kernel */
typedef uint64_t kpaddr_t;	/* a physical address of any machine */
#ifndef __FreeBSD__
typedef int64_t kssize_t;
typedef unsigned char vm_prot_t;
#define VM_PROT_READ	((vm_prot_t)0x01)
#define VM_PROT_WRITE	((vm_prot_t)0x02)
#define VM_PROT_EXECUTE	((vm_prot_t)0x04)
#endif

typedef struct __kvm kvm_t;

/* A symbol, wide enough for every kernel. */
struct kvm_nlist {
	const char *n_name;
	unsigned char n_type;
	kvaddr_t n_value;
};

#define LIBKVM_WALK_PAGES_VERSION 2

/* What kvm_walk_pages() tells of a page. */
struct kvm_page {
	unsigned int kp_version;	/* LIBKVM_WALK_PAGES_VERSION */
	kpaddr_t kp_paddr;		/* physical address */
	kvaddr_t kp_kmap_vaddr;		/* address in the kernel map, or 0 */
	kvaddr_t kp_dmap_vaddr;		/* address in the direct map, or 0 */
	vm_prot_t kp_prot;		/* VM_PROT_* */
	off_t kp_offset;		/* where it is in the file, or -1 */
	size_t kp_len;			/* bytes */
};

typedef int kvm_walk_pages_cb_t(struct kvm_page *, void *);

#ifndef __FreeBSD__
#define KERN_PROC_ALL		0
#define KERN_PROC_PID		1
#define KERN_PROC_PGRP		2
#define KERN_PROC_SESSION	3
#define KERN_PROC_UID		5
#define KERN_PROC_RUID		6
#define KERN_PROC_PROC		8
#define KERN_PROC_RGID		10
#define KERN_PROC_GID		11
#define KERN_PROC_INC_THREAD	0x10

/* ki_tdev without a terminal, ki_oncpu and ki_lastcpu without a CPU */
#ifndef NODEV
#define NODEV	((uint64_t)-1)
#endif
#define NOCPU	(-1)

/* ki_stat */
#define SIDL	1
#define SRUN	2
#define SSLEEP	3
#define SSTOP	4
#define SZOMB	5
#define SWAIT	6
#define SLOCK	7

#define KI_NGROUPS	16
#define TDNAMLEN	16
#define WMESGLEN	8
#define LOGNAMELEN	17
#define LOCKNAMELEN	8
#define COMMLEN		19
#define KI_EMULNAMELEN	16
#define LOGINCLASSLEN	17
#define MAXCOMLEN	19
#define KI_NSPARE_INT	2
#define KI_NSPARE_PTR	5
#define KI_NSPARE_LONG	12

struct kvm_sigset {
	uint32_t __bits[4];
};

struct kvm_priority {
	unsigned char pri_class;
	unsigned char pri_level;
	unsigned char pri_native;
	unsigned char pri_user;
};

/* What kvm_getprocs() tells of a process or thread: FreeBSD's structure, of 64-bit systems. */
struct kinfo_proc {
	int ki_structsize;
	int ki_layout;
	void *ki_args;
	void *ki_paddr;
	void *ki_addr;
	void *ki_tracep;
	void *ki_textvp;
	void *ki_fd;
	void *ki_vmspace;
	const void *ki_wchan;
	int32_t ki_pid;
	int32_t ki_ppid;
	int32_t ki_pgid;
	int32_t ki_tpgid;
	int32_t ki_sid;
	int32_t ki_tsid;
	short ki_jobc;
	short ki_spare_short1;
	uint32_t ki_tdev_freebsd11;
	struct kvm_sigset ki_siglist;
	struct kvm_sigset ki_sigmask;
	struct kvm_sigset ki_sigignore;
	struct kvm_sigset ki_sigcatch;
	uint32_t ki_uid;
	uint32_t ki_ruid;
	uint32_t ki_svuid;
	uint32_t ki_rgid;
	uint32_t ki_svgid;
	short ki_ngroups;
	short ki_spare_short2;
	uint32_t ki_groups[KI_NGROUPS];
	uintptr_t ki_size;
	intptr_t ki_rssize;
	intptr_t ki_swrss;
	intptr_t ki_tsize;
	intptr_t ki_dsize;
	intptr_t ki_ssize;
	unsigned short ki_xstat;
	unsigned short ki_acflag;
	uint32_t ki_pctcpu;
	unsigned int ki_estcpu;
	unsigned int ki_slptime;
	unsigned int ki_swtime;
	unsigned int ki_cow;
	uint64_t ki_runtime;
	struct timeval ki_start;
	struct timeval ki_childtime;
	long ki_flag;
	long ki_kiflag;
	int ki_traceflag;
	char ki_stat;
	signed char ki_nice;
	char ki_lock;
	char ki_rqindex;
	unsigned char ki_oncpu_old;
	unsigned char ki_lastcpu_old;
	char ki_tdname[TDNAMLEN + 1];
	char ki_wmesg[WMESGLEN + 1];
	char ki_login[LOGNAMELEN + 1];
	char ki_lockname[LOCKNAMELEN + 1];
	char ki_comm[COMMLEN + 1];
	char ki_emul[KI_EMULNAMELEN + 1];
	char ki_loginclass[LOGINCLASSLEN + 1];
	char ki_moretdname[MAXCOMLEN - TDNAMLEN + 1];
	char ki_sparestrings[46];
	int ki_spareints[KI_NSPARE_INT];
	uint64_t ki_tdev;
	int ki_oncpu;
	int ki_lastcpu;
	int ki_tracer;
	int ki_flag2;
	int ki_fibnum;
	unsigned int ki_cr_flags;
	int ki_jid;
	int ki_numthreads;
	int32_t ki_tid;
	struct kvm_priority ki_pri;
	struct rusage ki_rusage;
	struct rusage ki_rusage_ch;
	void *ki_pcb;
	void *ki_kstack;
	void *ki_udata;
	void *ki_tdaddr;
	void *ki_pd;
	void *ki_spareptrs[KI_NSPARE_PTR];
	long ki_sparelongs[KI_NSPARE_LONG];
	long ki_sflag;
	long ki_tdflags;
};
#endif

int kvm_close(kvm_t *);
char *kvm_geterr(kvm_t *);
struct kinfo_proc *kvm_getprocs(kvm_t *, int, int, int *);
kssize_t kvm_kerndisp(kvm_t *);
int kvm_native(kvm_t *);
int kvm_nlist(kvm_t *, struct nlist *);
int kvm_nlist2(kvm_t *, struct kvm_nlist *);
kvm_t *kvm_open(const char *, const char *, const char *, int, const char *);
kvm_t *kvm_open2(const char *, const char *, int, char *, int (*)(const char *, kvaddr_t *));
kvm_t *kvm_openfiles(const char *, const char *, const char *, int, char *);
ssize_t kvm_read(kvm_t *, unsigned long, void *, size_t);
ssize_t kvm_read2(kvm_t *, kvaddr_t, void *, size_t);
int kvm_walk_pages(kvm_t *, kvm_walk_pages_cb_t *, void *);

#ifdef __cplusplus
}
#endif

#endif
