# Egret in GNU Make (4.2 or newer): $(EGRET_OUT)/lib<name>.a, <name>.h and <name>.hpp of $(EGRET_FROM)/<name>.onnx.
#
#   EGRET_NAMES := digits              # the models; names are identifiers of C
#   EGRET_FLAGS_digits := --dim batch=1 --target x86-64-v3,x86-64-v4
#   include egret.mk
#   app: main.o $(EGRET_OUT)/libdigits.a
#   main.o: $(EGRET_OUT)/digits.h      # until the compiler's own .d says so
#
# A model is compiled again when its file, its external data, the egret.toml beside it, its options or the command change. Make has no names with spaces:
# where the folders above have some, use relative paths.

EGRET ?= egret
EGRET_FLAGS ?=
EGRET_FROM ?= .
EGRET_OUT ?= egret

# What a model is compiled with, as it is on file and as it is now; settings beside it may come and go. It is written anew for a header that is gone, too.
egret_now = $(EGRET) $(EGRET_FLAGS) $(EGRET_FLAGS_$(1)) $(wildcard $(EGRET_FROM)/egret.toml)
egret_was = $(file <$(EGRET_OUT)/$(1).options)
egret_differ = $(subst x$(1)x,,x$(2)x)$(subst x$(2)x,,x$(1)x)
egret_gone = $(filter-out $(wildcard $(EGRET_OUT)/$(1).h $(EGRET_OUT)/$(1).hpp),$(EGRET_OUT)/$(1).h $(EGRET_OUT)/$(1).hpp)
egret_note = $(if $(call egret_differ,$(call egret_was,$(1)),$(call egret_now,$(1)))$(call egret_gone,$(1)),$(file >$(EGRET_OUT)/$(1).options,$(call egret_now,$(1))))
$(if $(wildcard $(EGRET_OUT)/.),,$(shell mkdir -p $(EGRET_OUT)))
$(foreach name,$(EGRET_NAMES),$(call egret_note,$(name)))

# The command itself, where its path has no spaces.
egret_command := $(shell command -v $(EGRET))
egret_command := $(if $(word 2,$(egret_command)),,$(egret_command))

# One run makes them all. A header whose text stays the same keeps its time, and what includes it is not compiled again.
$(EGRET_OUT)/lib%.a: $(EGRET_FROM)/%.onnx $(EGRET_OUT)/%.options $(egret_command)
	$(EGRET) compile $< --out-dir $(EGRET_OUT) --name $* --emit lib,header,hpp --keep-times $(EGRET_FLAGS) $(EGRET_FLAGS_$*)

$(EGRET_OUT)/%.h: $(EGRET_OUT)/lib%.a ;
$(EGRET_OUT)/%.hpp: $(EGRET_OUT)/lib%.a ;

.PRECIOUS: $(EGRET_OUT)/lib%.a

$(EGRET_OUT)/%.options: ;

-include $(EGRET_NAMES:%=$(EGRET_OUT)/%.d)
