/*
 * nlist.h - the symbol list of kvm_nlist(3), for systems that have none or another one.
 *
 * The members and their order are FreeBSD's.
 */
#ifndef KVMCORE_NLIST_H
#define KVMCORE_NLIST_H

struct nlist {
	const char *n_name;	/* the symbol's name */
	unsigned char n_type;	/* N_TEXT, N_DATA, or 0 if there is no such symbol */
	char n_other;
	short n_desc;
	unsigned long n_value;	/* its address */
};

#define N_UNDF	0x00
#define N_TEXT	0x04
#define N_DATA	0x06

#endif
